/* What io.h promises about files and directories: part of facts.c, which includes it. */

START_TEST(write_and_read_back) {
  io_file file;
  static uint8_t one[10000], two[5000], got[15000];
  memset(one, 'a', sizeof one);
  memset(two, 'b', sizeof two);
  ck_assert_int_eq(io_file_open(io, in_directory("f"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE, &file), E_OK);
  struct io_slice slices[2] = {{one, sizeof one}, {two, sizeof two}};
  io_write(io, file, slices, 2, 100, IO_WRITE_SYNC, 20);
  ck_assert_int_eq(await(20), 15000);
  io_sync(io, file, 22);
  ck_assert_int_eq(await(22), 0);
  struct io_slice back = {got, sizeof got};
  io_read(io, file, &back, 1, 100, 21);
  ck_assert_int_eq(await(21), 15000);
  ck_assert(memcmp(got, one, sizeof one) == 0 && memcmp(got + sizeof one, two, sizeof two) == 0);
  struct io_slice beyond[2] = {{got, 10000}, {got + 10000, 5000}};
  io_read(io, file, beyond, 2, 12100, 21);
  ck_assert_int_eq(await(21), 3000); /* ends with the file */
  uint64_t size;
  ck_assert_int_eq(io_file_size(io, file, &size), E_OK);
  ck_assert_uint_eq(size, 15100);
  io_file_close(io, file);
  ck_assert_int_eq(io_file_open(io, in_directory("f"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE, &file), E_EXISTS);
  ck_assert_int_eq(io_file_open(io, in_directory("none"), IO_FILE_READ, &file), E_NOT_FOUND);
}
END_TEST

START_TEST(append_goes_to_the_end) {
  io_file file;
  uint8_t got[8];
  struct io_slice first = {(void *)"1234", 4}, second = {(void *)"5678", 4}, back = {got, 8};
  ck_assert_int_eq(io_file_open(io, in_directory("a"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_APPEND, &file), E_OK);
  io_write(io, file, &first, 1, 0, 0, 20);
  ck_assert_int_eq(await(20), 4);
  io_write(io, file, &second, 1, 0, 0, 20);
  ck_assert_int_eq(await(20), 4);
  io_read(io, file, &back, 1, 0, 21);
  ck_assert_int_eq(await(21), 8);
  ck_assert(memcmp(got, "12345678", 8) == 0);
  io_file_close(io, file);
}
END_TEST

START_TEST(direct_writes_where_possible) {
  io_file file;
  int error = io_file_open(io, in_directory("d"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_DIRECT, &file);
  if (error == E_UNSUPPORTED) return; /* tmpfs and the like */
  ck_assert_int_eq(error, E_OK);
  unsigned alignment = io_file_alignment(io, file);
  ck_assert(alignment >= 512 && (alignment & (alignment - 1)) == 0);
  ck_assert_int_eq(io_file_allocate(io, file, 1 << 20), E_OK);
  uint8_t *memory = aligned_alloc(4096, 16384);
  memset(memory, 'd', 16384);
  struct io_slice slices[2] = {{memory, alignment}, {memory + 4096, 4096}};
  io_write(io, file, slices, 2, 4096, IO_WRITE_SYNC, 20);
  ck_assert_int_eq(await(20), (int64_t)alignment + 4096);
  free(memory);
  io_file_close(io, file);
}
END_TEST

START_TEST(a_write_to_a_full_device_says_no_space) {
  io_file file;
  struct io_slice slice = {(void *)"x", 1};
  if (io_file_open(io, "/dev/full", IO_FILE_WRITE, &file) != E_OK) return;
  io_write(io, file, &slice, 1, 0, 0, 20);
  ck_assert_int_eq(await(20), E_NO_SPACE);
  io_file_close(io, file);
}
END_TEST

START_TEST(a_bad_file_is_an_error_not_a_crash) {
  struct io_slice slice = {(void *)"x", 1};
  io_write(io, 9999, &slice, 1, 0, 0, 20);
  ck_assert_int_lt(await(20), 0);
}
END_TEST

START_TEST(a_lock_is_exclusive) {
  io_file first, second;
  ck_assert_int_eq(io_file_open(io, in_directory("lock"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_LOCK, &first), E_OK);
  ck_assert_int_eq(io_file_open(io, in_directory("lock"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_LOCK, &second), E_BUSY);
  io_file_close(io, first);
  ck_assert_int_eq(io_file_open(io, in_directory("lock"), IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_LOCK, &second), E_OK);
  io_file_close(io, second);
}
END_TEST

START_TEST(directories_are_no_files) {
  char path[200];
  io_file file;
  ck_assert_int_eq(io_file_open(io, in_directory("f"), IO_FILE_WRITE | IO_FILE_CREATE, &file), E_OK);
  io_file_close(io, file);
  ck_assert_int_eq(io_directory_make(io, in_directory("f")), E_NOT_DIRECTORY);
  snprintf(path, sizeof path, "%s/f/below", directory);
  ck_assert_int_eq(io_directory_make(io, path), E_NOT_DIRECTORY);
  ck_assert_int_eq(io_file_open(io, directory, IO_FILE_WRITE, &file), E_IS_DIRECTORY);
}
END_TEST

START_TEST(directories_are_renamed_and_removed) {
  char from[200], to[200], old_name[200], new_name[200];
  io_file file;
  uint64_t size_bytes;
  snprintf(from, sizeof from, "%s", in_directory("from"));
  snprintf(to, sizeof to, "%s", in_directory("to"));
  snprintf(old_name, sizeof old_name, "%s", in_directory("from/f"));
  snprintf(new_name, sizeof new_name, "%s", in_directory("to/f"));
  ck_assert_int_eq(io_directory_make(io, from), E_OK);
  ck_assert_int_eq(io_directory_make(io, to), E_OK);
  ck_assert_int_eq(io_file_open(io, old_name, IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_LOCK, &file), E_OK);
  ck_assert_int_eq(io_directory_remove(io, from), E_EXISTS);
  ck_assert_int_eq(io_file_rename(io, from, to), E_OK); /* over an empty one */
  ck_assert_int_eq(io_directory_list(io, from, remove_one, NULL), E_NOT_FOUND);
  ck_assert_int_eq(io_file_size(io, file, &size_bytes), E_OK); /* what is open stays open, and locked */
  io_file other;
  ck_assert_int_eq(io_file_open(io, new_name, IO_FILE_WRITE | IO_FILE_LOCK, &other), E_BUSY);
  io_file_close(io, file);
  ck_assert_int_eq(io_directory_make(io, from), E_OK);
  ck_assert_int_eq(io_file_rename(io, from, to), E_EXISTS); /* but over no other */
  ck_assert_int_eq(io_directory_remove(io, from), E_OK);
  ck_assert_int_eq(io_directory_remove(io, from), E_NOT_FOUND);
  ck_assert_int_eq(io_file_remove(io, new_name), E_OK);
  ck_assert_int_eq(io_directory_sync(io, to), E_OK);
  ck_assert_int_eq(io_directory_remove(io, to), E_OK);
}
END_TEST

START_TEST(addresses_are_ours_or_not) {
  struct netaddr address = loopback(), foreign = {.family = 4, .port = 1, .bytes = {192, 0, 2, 1}};
  io_socket listener;
  ck_assert_int_eq(io_listen(io, &address, 4, true, &listener), E_OK);
  io_local(io, listener, &address);
  ck_assert_int_eq(io_address_check(io, &address), E_OK);
  ck_assert_int_eq(io_address_check(io, &foreign), E_NO_ADDRESS);
}
END_TEST

START_TEST(directories) {
  char path[200];
  uint64_t free_bytes, total_bytes;
  snprintf(path, sizeof path, "%s/x/y/z", directory);
  ck_assert_int_eq(io_directory_make(io, path), E_OK);
  ck_assert_int_eq(io_directory_make(io, path), E_OK);
  ck_assert_int_eq(io_directory_sync(io, path), E_OK);
  ck_assert_int_eq(io_directory_space(io, path, &free_bytes, &total_bytes), E_OK);
  ck_assert_uint_gt(free_bytes, 0);
  ck_assert_uint_ge(total_bytes, free_bytes);
  static const char *const parts[] = {"x/y/z", "x/y", "x"};
  for (unsigned i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s", directory, parts[i]);
    remove_directory(path);
  }
  ck_assert_int_eq(io_directory_list(io, "/nonexistent", remove_one, NULL), E_NOT_FOUND);
}
END_TEST

static TCase *files_case(void) {
  TCase *files = tcase_create("files");
  tcase_add_checked_fixture(files, open_io, close_io);
  tcase_add_test(files, write_and_read_back);
  tcase_add_test(files, append_goes_to_the_end);
  tcase_add_test(files, direct_writes_where_possible);
  tcase_add_test(files, a_write_to_a_full_device_says_no_space);
  tcase_add_test(files, a_bad_file_is_an_error_not_a_crash);
  tcase_add_test(files, a_lock_is_exclusive);
  tcase_add_test(files, directories);
  tcase_add_test(files, directories_are_no_files);
  tcase_add_test(files, directories_are_renamed_and_removed);
  tcase_add_test(files, addresses_are_ours_or_not);
  return files;
}
