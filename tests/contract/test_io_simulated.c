/* The facts about io.h on the simulated one, so that what the simulator shows is true of the real one, too. */
static char directory[64] = "/contract";

static void open_world(void);
static void close_world(void);
static void remove_directory(const char *path);
static void in_thread(void *(*run)(void *argument), void *argument, void (*meanwhile)(void));
struct netaddr;
static void echo_open(struct netaddr *address);
static void echo(void);

#include "tests/contract/facts.c"

#include "tests/sim/disk.h"
#include "tests/sim/io.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

/* A server may answer at any time, and more than once: in a simulated world questions live until its end. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

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

static void send_back(void *owner, struct span bytes, net_answer answer, void *context) {
  (void)owner;
  answer(context, bytes);
}

static void echo_open(struct netaddr *address) {
  *address = (struct netaddr){.family = 4, .port = 53, .bytes = {127, 0, 0, 1}};
  net_serve(address, send_back, NULL);
}

static void echo(void) {}
