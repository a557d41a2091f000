#include "net/cli/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/must.h"

#define BIND (1u << CAP_NET_BIND_SERVICE)

/* What stands in `permitted` is effective too; nothing can be inherited. */
static bool set_capabilities(uint32_t permitted) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{.effective = permitted, .permitted = permitted}};
  return syscall(SYS_capset, &header, data) == 0;
}

static uint32_t permitted_capabilities(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{0}};
  return syscall(SYS_capget, &header, data) == 0 ? data[0].permitted : 0;
}

static int complain(struct fmt *why, const char *what, const char *name, int number) {
  fmt_text(why, what);
  fmt_text(why, name);
  fmt_text(why, ": ");
  fmt_text(why, strerror(number));
  return number == EPERM || number == EACCES ? E_PERMISSION : E_OTHER;
}

/* Parents are root's, the last one is the user's. One that is there already stays whose it is. NULL user: of whoever we are. */
static int make_directory(const char *path, const struct passwd *user, struct fmt *why) {
  char part[4096];
  size_t len = strlen(path);
  while (len > 1 && path[len - 1] == '/') len--;
  if (len >= sizeof part) return complain(why, "", path, ENAMETOOLONG);
  for (size_t i = 1; i <= len; i++) {
    if (i < len && path[i] != '/') continue;
    memcpy(part, path, i);
    part[i] = '\0';
    if (mkdir(part, i == len ? 0750 : 0755) != 0) {
      if (errno != EEXIST) return complain(why, "cannot make ", part, errno);
    } else if (i == len && user != NULL && chown(part, user->pw_uid, user->pw_gid) != 0) {
      return complain(why, "cannot give to the user ", part, errno);
    }
  }
  return E_OK;
}

/* The sandbox is drawn around them, so they have to be there. */
static int make_directories(const struct conf *conf, const struct passwd *user, struct fmt *why) {
  int error = make_directory(conf->spool_path, user, why);
  return error == E_OK && conf->events_path != NULL ? make_directory(conf->events_path, user, why) : error;
}

static int become(const struct passwd *user, struct fmt *why) {
  if (prctl(PR_SET_KEEPCAPS, 1) != 0 || initgroups(user->pw_name, user->pw_gid) != 0 || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
      setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0 || prctl(PR_SET_KEEPCAPS, 0) != 0 || !set_capabilities(BIND))
    return complain(why, "cannot become the user ", user->pw_name, errno);
  if (setuid(0) == 0) return complain(why, "still root after becoming ", user->pw_name, EPERM);
  return E_OK;
}

static int find_user(const char *name, struct passwd **user, struct fmt *why) {
  errno = 0;
  *user = getpwnam(name);
  if (*user == NULL) {
    fmt_text(why, "user: there is no user ");
    fmt_text(why, name);
    return E_NOT_FOUND;
  }
  if ((*user)->pw_uid == 0) {
    fmt_text(why, "user: that is root; leave the key out, or name one that may do less");
    return E_PERMISSION;
  }
  return E_OK;
}

/* Also if that is who we are. */
static int begin_as(const char *name, const struct conf *conf, struct fmt *why) {
  struct passwd *user = NULL;
  int error = find_user(name, &user, why);
  if (error != E_OK || user->pw_uid == geteuid()) return error;
  if (geteuid() != 0) {
    fmt_text(why, "user: only root can become another user; start as root, or as ");
    fmt_text(why, name);
    return E_PERMISSION;
  }
  error = make_directories(conf, user, why);
  return error == E_OK ? become(user, why) : error;
}

int privileges_begin(const struct conf *conf, struct fmt *why) {
  uint8_t room[256];
  struct fmt unheard = fmt_over(room, sizeof room);
  int error = conf->user != NULL ? begin_as(conf->user, conf, why) : E_OK;
  if (error != E_OK) return error;
  (void)make_directories(conf, NULL, &unheard); /* what is wrong with them is said by those who use them */
  if (geteuid() != 0) (void)set_capabilities(permitted_capabilities() & BIND);
  return E_OK;
}

void privileges_end(const struct conf *conf) {
  if (geteuid() == 0 && conf->user == NULL) return;
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  must(set_capabilities(0)); /* to have less is always allowed */
}

void privileges_no_dumps(void) {
#if !defined(__SANITIZE_ADDRESS__) /* whose search for leaks looks at the process from outside */
  struct rlimit none = {0, 0};
  (void)setrlimit(RLIMIT_CORE, &none);
  (void)prctl(PR_SET_DUMPABLE, 0);
#endif
}
