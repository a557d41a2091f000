#include "net/cli/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/error.h"

/* ---- files ---- */

/* Newer than the headers we are built with. */
#define ACCESS_TRUNCATE (1ull << 14)

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                                                                                 \
  (ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |      \
   LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REFER | ACCESS_TRUNCATE)
#define ACCESS_ALL                                                                                                                                   \
  (ACCESS_WRITE | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |          \
   LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

struct ruleset {
  int fd;
  uint64_t handled; /* what this kernel knows of */
};

static int complain(struct fmt *why, const char *what, const char *name) {
  fmt_text(why, what);
  fmt_text(why, name);
  fmt_text(why, ": ");
  fmt_text(why, strerror(errno));
  return E_OTHER;
}

/* What is not there need not be allowed. */
static int allow(const struct ruleset *ruleset, const char *path, uint64_t access, struct fmt *why) {
  struct stat about;
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? E_OK : complain(why, "cannot open ", path);
  bool is_file = fstat(fd, &about) == 0 && !S_ISDIR(about.st_mode);
  if (is_file) access &= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE;
  struct landlock_path_beneath_attr rule = {.allowed_access = access & ruleset->handled, .parent_fd = fd};
  int error = syscall(SYS_landlock_add_rule, ruleset->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0 ? E_OK : complain(why, "Landlock: ", path);
  close(fd);
  return error;
}

/* Directories that hold too much of others. */
static bool is_common(const char *directory) {
  static const char *const common[] = {"/", "/etc", "/home", "/root", "/tmp", "/var", "/var/tmp", "/var/lib", "/run", "/opt", "/srv"};
  for (size_t i = 0; i < sizeof common / sizeof *common; i++)
    if (strcmp(directory, common[i]) == 0) return true;
  return false;
}

/* Files that are replaced, not written to, are allowed with their directory, if that is for them: of a common one the file as it is, which cannot be read again when it was replaced. */
static int allow_around(const struct ruleset *ruleset, const char *path, struct fmt *why) {
  char copy[4096];
  if (path == NULL) return E_OK;
  if (strlen(path) >= sizeof copy) {
    errno = ENAMETOOLONG;
    return complain(why, "", path);
  }
  memcpy(copy, path, strlen(path) + 1);
  const char *directory = dirname(copy);
  return allow(ruleset, is_common(directory) ? path : directory, ACCESS_READ, why);
}

static int allow_system(const struct ruleset *ruleset, struct fmt *why) {
  /* For name look-ups, trusted authorities, time zones, what is loaded late, and reports of one's own memory. */
  static const char *const readable[] = {"/usr",
                                         "/lib",
                                         "/lib64",
                                         "/etc/resolv.conf",
                                         "/etc/hosts",
                                         "/etc/host.conf",
                                         "/etc/gai.conf",
                                         "/etc/nsswitch.conf",
                                         "/etc/ld.so.cache",
                                         "/etc/services",
                                         "/etc/localtime",
                                         "/etc/ssl",
                                         "/etc/ca-certificates",
                                         "/run/systemd/resolve",
                                         "/proc",
                                         "/sys/fs/cgroup",
                                         "/sys/devices/system/cpu"};
  int error = allow(ruleset, "/dev/null", ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE, why);
  if (error == E_OK) error = allow(ruleset, "/dev/urandom", ACCESS_READ, why);
  for (size_t i = 0; error == E_OK && i < sizeof readable / sizeof *readable; i++) error = allow(ruleset, readable[i], ACCESS_READ, why);
  return error;
}

static int allow_own(const struct ruleset *ruleset, const struct conf *conf, const char *conf_path, struct fmt *why) {
  int error = allow_around(ruleset, conf_path, why);
  if (error == E_OK) error = allow_around(ruleset, conf->users_path, why);
  if (error == E_OK) error = allow_around(ruleset, conf->client_ca, why);
  if (error == E_OK) error = allow_around(ruleset, conf->tls_ca, why);
  for (unsigned i = 0; error == E_OK && i < conf->routes_count; i++) error = allow_around(ruleset, conf->routes[i].password_file, why);
  for (unsigned i = 0; error == E_OK && i < conf->certificates_count; i++) {
    error = allow_around(ruleset, conf->certificates[i].cert, why);
    if (error == E_OK) error = allow_around(ruleset, conf->certificates[i].key, why);
  }
  if (error == E_OK) error = allow(ruleset, conf->spool_path, ACCESS_WRITE, why);
  if (error == E_OK && conf->events_path != NULL) error = allow(ruleset, conf->events_path, ACCESS_WRITE, why);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  char self[4096]; /* for the names in its reports */
  ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
  if (len > 0) self[len] = '\0';
  if (error == E_OK && len > 0) error = allow(ruleset, self, ACCESS_READ, why);
#endif
  return error;
}

/* 0: this kernel has none. */
static long landlock_version(void) {
  long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version > 0 ? version : 0;
}

int sandbox_files(const struct conf *conf, const char *conf_path, struct fmt *why) {
  long version = landlock_version();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return complain(why, "no_new_privs", "");
  if (version == 0) {
    fprintf(stderr, "ringpost: this kernel has no Landlock: the process may see every file its user may\n");
    return E_OK;
  }
  struct landlock_ruleset_attr attr = {.handled_access_fs = ACCESS_ALL};
  if (version < 3) attr.handled_access_fs &= ~ACCESS_TRUNCATE;
  if (version < 2) attr.handled_access_fs &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
  struct ruleset ruleset = {.fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0), .handled = attr.handled_access_fs};
  if (ruleset.fd < 0) return complain(why, "Landlock", "");
  int error = allow_system(&ruleset, why);
  if (error == E_OK) error = allow_own(&ruleset, conf, conf_path, why);
  if (error == E_OK && syscall(SYS_landlock_restrict_self, ruleset.fd, 0) != 0) error = complain(why, "Landlock", "");
  close(ruleset.fd);
  return error;
}

/* ---- system calls ---- */

#if !defined(__SANITIZE_ADDRESS__) /* whose search for leaks traces the process from a process of its own */

/* What is left after these is a process that reads, writes, waits and talks. */
static const int refused[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork), /* other programs */
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_open), /* other processes */
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsmount),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fspick),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(unshare),
    SCMP_SYS(setns), /* another world */
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(personality),
    SCMP_SYS(lookup_dcookie),
    SCMP_SYS(syslog),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(reboot),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(nfsservctl),
    SCMP_SYS(vhangup), /* the kernel and the machine */
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid), /* another user */
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(mknod),
    SCMP_SYS(mknodat),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(chown),
    SCMP_SYS(fchown),
    SCMP_SYS(lchown),
    SCMP_SYS(fchownat),
    SCMP_SYS(setxattr),
    SCMP_SYS(lsetxattr),
    SCMP_SYS(fsetxattr),
    SCMP_SYS(mbind),
    SCMP_SYS(migrate_pages),
    SCMP_SYS(move_pages),
    SCMP_SYS(set_mempolicy),
};

int sandbox_calls(struct fmt *why) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  int error = filter == NULL ? -ENOMEM : seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
  for (size_t i = 0; error == 0 && i < sizeof refused / sizeof *refused; i++) error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
  /* clone makes threads, too, so only what makes another process is refused; clone3's flags cannot be seen, and the C library goes on with clone */
  if (error == 0)
    error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0x10000 /* CLONE_THREAD */, 0));
  if (error == 0) error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  if (error == 0) error = seccomp_load(filter);
  if (filter != NULL) seccomp_release(filter);
  if (error == 0) return E_OK;
  errno = -error;
  return complain(why, "seccomp", "");
}

#else

int sandbox_calls(struct fmt *why) {
  (void)why;
  return E_OK;
}

#endif
