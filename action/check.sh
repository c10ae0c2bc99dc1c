#!/usr/bin/env bash
# What the GitHub action runs: `moeplan check` with the action's inputs as MOEPLAN_* variables. Inputs are words of a
# command, never code: nothing of them is evaluated.
set -euo pipefail

read -r -a words <<<"${MOEPLAN_PATHS:-.}"
[ -z "${MOEPLAN_POLICY:-}" ] || words+=(--policy "$MOEPLAN_POLICY")
[ -z "${MOEPLAN_GPU:-}" ] || words+=(--gpu "$MOEPLAN_GPU")
[ -z "${MOEPLAN_BASELINE:-}" ] || words+=(--baseline "$MOEPLAN_BASELINE")
[ "${MOEPLAN_LOCKED:-false}" != true ] || words+=(--locked)
words+=(--fail-on "${MOEPLAN_FAIL_ON:-error}")
output="${GITHUB_OUTPUT:-/dev/null}"

# Where there is no pull request, `origin/${{ github.base_ref }}` names no revision.
case "${MOEPLAN_DIFF:-}" in */) MOEPLAN_DIFF="" ;; esac
if [ -n "${MOEPLAN_DIFF:-}" ]; then
    comment="${RUNNER_TEMP:-/tmp}/moeplan-comment.md"
    moeplan check "${words[@]}" --diff "$MOEPLAN_DIFF" --output "$comment" || true
    [ ! -f "$comment" ] || cat "$comment" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
    echo "comment=$comment" >>"$output"
fi

formats=(--format text --output - --format github --output -)
[ -z "${MOEPLAN_SARIF:-}" ] || formats+=(--format sarif --output "$MOEPLAN_SARIF")
code=0
moeplan check "${words[@]}" "${formats[@]}" || code=$?
echo "exit-code=$code" >>"$output"
if [ "$code" = 3 ] && [ "${MOEPLAN_CANNOT_VERIFY:-fail}" = pass ]; then
    echo "moeplan: something could not be verified; the job passes all the same, as it was asked to"
    exit 0
fi
exit "$code"
