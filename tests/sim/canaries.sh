#!/bin/sh
# canaries.sh BUILD CC-AND-FLAGS LINK-FLAGS: builds the simulator with one deliberate fault after the other (core/base/canary.h); each has to be found within a minute.
# First the same seeds have to be clean without any. Prints a line for each, and exits with 1 if one was not found.
build=$1 compile=$2 libraries=$3
missed=0
"$build/sim" --seeds 1-300 --first --jobs "$(nproc)" || exit 2
while read -r name file; do
  grep -q "canary(CANARY_$name)" "$file" || { echo "$file has no CANARY_$name"; exit 2; }
  object=$build/canary/$name.o
  mkdir -p "$build/canary"
  $compile -DCANARY=CANARY_"$name" -c -o "$object" "$file" || exit 2
  # shellcheck disable=SC2086
  $compile -o "$build/canary/$name" "$object" $libraries || exit 2
  begin=$(date +%s)
  if "$build/canary/$name" --seeds 1-100000 --seconds 60 --first --jobs "$(nproc)" >"$build/canary/$name.txt"; then
    echo "not ok $name: not found in a minute"
    missed=1
  elif ! grep -q 'FAULT with' "$build/canary/$name.txt"; then
    echo "not ok $name: the simulator itself failed"
    missed=1
  else
    echo "ok $name: found after $(($(date +%s) - begin)) s: $(grep -o 'FAULT.*' "$build/canary/$name.txt" | head -n 1 | cut -c 1-150)"
  fi
done <<EOF
UNSYNCED queue/spool/commit.c
SKIPPED_OUTCOME queue/schedule.c
LOST_WAKEUP core/shard/mailbox.c
LIMIT_BY_ONE net/out/site.c
TORN_RECORD queue/spool/replay.c
FAILED_COMMIT queue/spool/commit.c
ADOPTED queue/spool/adopt.c
LOST_REPORT net/out/dsn.c
REPORT_SENDER net/out/dsn.c
CLOCK queue/schedule.c
ANY_ID dns/udp.c
RESUMED net/control/suspend.c
BOUNCED_AGAIN net/out/deliver.c
OLD_LIMIT net/out/deliver.c
EOF
exit $missed
