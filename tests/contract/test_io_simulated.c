/* The facts about io.h on the simulated one, so that what the simulator shows is true of the real one, too. */
static char directory[64] = "/contract";

static void open_world(void);
static void close_world(void);
static void remove_directory(const char *path);
static void in_thread(void *(*run)(void *argument), void *argument, void (*meanwhile)(void));

#include "tests/contract/facts.c"

#include "tests/sim/disk.h"
#include "tests/sim/io.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

static void open_world(void) {
  static const struct netaddr v4 = {.family = 4, .bytes = {127, 0, 0, 1}}, v6 = {.family = 6, .bytes = {[15] = 1}};
  world_open(1, NULL);
  disk_open();
  net_open();
  sim_io_open(&v4, &v6);
  ck_assert_int_eq(io_directory_make(NULL, directory), E_OK);
}

static void close_world(void) {}
static void remove_directory(const char *path) { (void)path; }

static void in_thread(void *(*run)(void *argument), void *argument, void (*meanwhile)(void)) {
  run(argument);
  meanwhile();
}
