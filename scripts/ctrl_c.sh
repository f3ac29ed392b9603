#!/usr/bin/env bash
# ctrl_c.sh NAME COMMAND...: runs a command so that Ctrl-C is one line at any moment. Left to itself, every program below
# gets the signal at once and says so in its own words: Python by a traceback, C++ by "terminate called". Here they lie in
# a process group of their own and are ended by SIGTERM, which most obey in silence.
set -m
exec 3>&2 2>/dev/null # bash's own word on jobs that were killed
NAME=$1
shift
"$@" 2>&3 3>&- &
COMMAND=$!
interrupted() {
    trap '' INT TERM
    kill -TERM -- "-$COMMAND"
    wait "$COMMAND"
    # 130: it has said so itself.
    [[ $? == 130 ]] || printf '\n%s: stopped; run it again to go on\n' "$NAME" >&3
    exit 130
}
trap interrupted INT TERM
wait "$COMMAND"
