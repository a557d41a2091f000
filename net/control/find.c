/* A message by its id: first among those on disk, for from there they come into memory; a little at a time. */
#include "net/control/inside.h"

#define ON_DISK_A_STEP 2048
#define MESSAGES_A_STEP 2048

/* True: it is not there (any more), or it is. */
static bool look_on_disk(struct finder *finder, const struct schedule *schedule) {
  return unloaded_find(&schedule->loader.list, finder->id, &finder->cursor, ON_DISK_A_STEP, &finder->on_disk);
}

bool finder_step(struct finder *finder, struct relay *relay) {
  struct schedule *schedule = relay_schedule(relay);
  if (!finder->begun) {
    if (!look_on_disk(finder, schedule)) return false;
    if (finder->on_disk) return true;
    finder->begun = true;
    schedule_find_begin(schedule, finder->id);
    return false;
  }
  if (!schedule_find_on(schedule, MESSAGES_A_STEP, &finder->message)) return false;
  if (finder->message != NULL) schedule_job_began(finder->message);
  return true;
}

void finder_end(struct finder *finder, struct relay *relay) {
  if (finder->message != NULL) schedule_job_ended(relay_schedule(relay), finder->message);
  finder->message = NULL;
}
