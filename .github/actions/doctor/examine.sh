#!/usr/bin/env bash
# Runs the doctor for action.yml, and tells GitHub its exit status and where the SARIF reports are.
set -uo pipefail

case "$DOCTOR_COMMAND" in
  diagnose | gate) ;;
  *) echo "::error::the input command is neither diagnose nor gate"; exit 2 ;;
esac

arguments=("$DOCTOR_COMMAND" "$DOCTOR_TARGET" --format github --no-progress "--output=sarif=$DOCTOR_SARIF")
[ "$DOCTOR_COMMAND" = gate ] && arguments=("$DOCTOR_COMMAND" "$DOCTOR_TARGET" --format github "--output=sarif=$DOCTOR_SARIF")
[ -n "$DOCTOR_HTML" ] && arguments+=("--output=html=$DOCTOR_HTML")
while IFS= read -r line; do [ -n "$line" ] && arguments+=("$line"); done <<< "$DOCTOR_OPTIONS"
if [ -n "$DOCTOR_SCRIPT_ARGUMENTS" ]; then
  arguments+=(--)
  while IFS= read -r line; do [ -n "$line" ] && arguments+=("$line"); done <<< "$DOCTOR_SCRIPT_ARGUMENTS"
fi

rm -f -- "$DOCTOR_SARIF"
python -m doctor "${arguments[@]}"
status=$?
echo "status=$status" >> "$GITHUB_OUTPUT"

if [ -f "$DOCTOR_SARIF" ]; then
  # Code scanning shows suppressed results as open alerts: what is uploaded holds none.
  upload="$RUNNER_TEMP/doctor-$$.sarif"
  python - "$DOCTOR_SARIF" "$upload" <<'PYTHON'
import json
import sys

log = json.load(open(sys.argv[1], encoding="utf-8"))
for run in log["runs"]:
    run["results"] = [result for result in run["results"] if not result.get("suppressions")]
json.dump(log, open(sys.argv[2], "w", encoding="utf-8"))
PYTHON
  path=$(python -c 'import os, sys; print(os.path.relpath(sys.argv[1], sys.argv[2]))' "$DOCTOR_SARIF" "$GITHUB_WORKSPACE")
  { echo "sarif=$path"; echo "upload=$upload"; } >> "$GITHUB_OUTPUT"
fi
exit "$status"
