#!/usr/bin/env bash
# run.sh MAKE BUILD SECONDS TARGET...: fuzzes each target so long with libFuzzer, starting from its corpus. What crashes is kept in
# BUILD/crashes/TARGET/; mend it, then add the input to tests/fuzz/corpus. New inputs that only widen coverage stay in BUILD/corpus.
set -eu
make=$1 build=$2 seconds=$3
shift 3
failed=()
for target; do
  eval "$make" "$build/fuzz/$target"
done
for target; do
  found=$build/corpus/$target crashes=$build/crashes/$target
  mkdir -p "$found" "$crashes"
  printf '%s: %s s\n' "$target" "$seconds"
  "$build/fuzz/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$crashes/" "$found" "tests/fuzz/corpus/${target#fuzz_}" || failed+=("$target")
done
printf '%d targets fuzzed, %d failed: %s\n' "$#" "${#failed[@]}" "${failed[*]:-none}"
[ "${#failed[@]}" -eq 0 ]
