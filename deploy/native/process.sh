# One part as a process: its folder, pid, port, state; how it is started, asked, stopped.
# A part's folder holds pid, port, version, log, its configuration and its data. The pid file says that the part is wanted:
# it is there from start to `down`, whatever becomes of the process.
# shellcheck shell=bash

START_SECONDS=${HEADWATER_NATIVE_START_SECONDS:-60}
STOP_SECONDS=${HEADWATER_NATIVE_STOP_SECONDS:-20}

home_of() { printf '%s/%s' "$DATA" "$1"; }
wanted() { [[ -f $DATA/$1/pid ]]; }
recorded() { cat "$DATA/$1/$2" 2>/dev/null || printf '%s' -; }

# alive <part>: a pid is used again by the system, so the command line must name the part's own folder.
# A zombie has no command line and counts as gone.
alive() {
  local pid
  pid=$(recorded "$1" pid)
  [[ $pid != - ]] && grep -qF "$DATA/$1/" "/proc/$pid/cmdline" 2>/dev/null
}

# state_of <part>: off (not wanted), dead (wanted, no such process), frozen (stopped by a signal),
# silent (a process that does not answer) or ready.
state_of() {
  local part=$1 before
  wanted "$part" || { echo off; return; }
  alive "$part" || { echo dead; return; }
  before=$(sed 's/.*) //; s/ .*//' "/proc/$(recorded "$part" pid)/stat" 2>/dev/null) || { echo dead; return; }
  if [[ $before == T ]]; then echo frozen; elif "${part}_answers"; then echo ready; else echo silent; fi
}

# start_process <part> <command...>: detached, in a session of its own, writing to the part's log.
start_process() {
  local home
  home=$(home_of "$1")
  shift
  printf '\n== %(%FT%TZ)T start: %s\n' -1 "$*" >>"$home/log"
  (
    release_lock
    cd "$home" || exit
    exec setsid "$@" </dev/null >>"$home/log" 2>&1
  ) &
  echo $! >"$home/pid"
}

# await_ready <part> <pid>: until it answers, its process ends, or the deadline.
await_ready() {
  local part=$1 pid=$2 deadline=$((SECONDS + START_SECONDS))
  until "${part}_answers"; do
    kill -0 "$pid" 2>/dev/null || fail "$part ended while starting: $(last_words "$part")"
    ((SECONDS < deadline)) || fail "$part does not answer after $START_SECONDS s: $(last_words "$part")"
    sleep 0.05
  done
}

# last_words <part>: the last complaint since its last start, or else its last line.
last_words() {
  local log=$DATA/$1/log
  printf '%.200s (log: %s)' "$(awk '/^== /   { complaint = "" }
    /FATAL|ERROR|Exception|[Ee]rror:/ && !/starting up/ { complaint = $0 }
    NF { last = $0 }
    END { print complaint ? complaint : last }' "$log" 2>/dev/null)" "$log"
}

# ask <port> <printf format> <bytes>: sends the request, prints the first bytes of the answer in hex, nothing if none comes.
ask() {
  # shellcheck disable=SC2016 # expanded by the inner shell
  timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1" && printf "$2" >&3 && head -c "$3" <&3 | od -An -v -tx1 | tr -d " \n"' \
    _ "$@" 2>/dev/null || true
}

# signal_tree <signal> <part>: the process and all below it (PostgreSQL's sessions) as one, so that killing or freezing the
# part leaves nothing of it working. Each is frozen before its children are looked for: a parent must not replace children
# while they are signalled.
signal_tree() {
  local waiting tree=() pid
  waiting=("$(recorded "$2" pid)")
  while ((${#waiting[@]})); do
    pid=${waiting[0]}
    waiting=("${waiting[@]:1}")
    kill -STOP "$pid" 2>/dev/null || continue
    tree=("$pid" "${tree[@]}")
    # shellcheck disable=SC2207 # a list of pids
    waiting+=($(cat "/proc/$pid/task/"*/children 2>/dev/null)) || true
  done
  ((${#tree[@]} == 0)) || kill "-$1" "${tree[@]}" 2>/dev/null || true
}

# halt <part>: asked to end, then killed after the deadline.
halt() {
  local part=$1 deadline=$((SECONDS + STOP_SECONDS))
  if alive "$part"; then
    signal_tree CONT "$part"
    kill "-$("${part}_stop_signal")" "$(recorded "$part" pid)" 2>/dev/null || true
    while alive "$part"; do
      if ((SECONDS >= deadline)); then
        note "$part did not end in $STOP_SECONDS s: killed"
        signal_tree KILL "$part"
        deadline=$((SECONDS + STOP_SECONDS))
      fi
      sleep 0.05
    done
  fi
  rm -f "$DATA/$part/pid"
}

# listener <port>: the inode of the socket that listens there, nothing if the port is free.
listener() {
  local hex
  printf -v hex ':%04X' "$1"
  awk -v port="$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { print $10; exit }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null || true
}

# holder <inode>: who that is, in words.
holder() {
  local fd pid
  fd=$(find /proc/[0-9]*/fd -lname "socket:\[$1\]" -print -quit 2>/dev/null) || true
  [[ $fd ]] || { echo "another user's process"; return; }
  pid=${fd#/proc/}
  pid=${pid%%/*}
  printf 'pid %s (%.60s)' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
}

# settle_port <part> <file> <fixed port or nothing>: the port the next start uses, remembered in the file. Free ports are
# taken below the range that outgoing connections use, so that a part which was killed finds its own free again.
settle_port() {
  local part=$1 file=$DATA/$1/$2 fixed=$3 port taken
  port=${fixed:-$(cat "$file" 2>/dev/null || true)}
  if [[ $port ]]; then
    [[ $port =~ ^[1-9][0-9]{0,4}$ && $port -lt 65536 ]] || fail "$part: \"$port\" is no port"
    taken=$(listener "$port")
    if [[ $taken && $fixed ]]; then
      fail "$part: port $port is taken by $(holder "$taken"): free it, or choose another"
    elif [[ $taken ]]; then
      note "$part: its port $port was taken by $(holder "$taken"): choosing another, run env again"
      port=
    fi
  fi
  while [[ ! $port ]]; do
    port=$(shuf -n 1 -i 20000-29999)
    [[ ! $(listener "$port") ]] && ! grep -qsx "$port" "$DATA"/*/*port || port=
  done
  echo "$port" >"$file"
}

# render <template> <file> <name=value...>: replaces @name@.
render() {
  local text pair
  text=$(<"$NATIVE/$1")
  for pair in "${@:3}"; do text=${text//"@${pair%%=*}@"/"${pair#*=}"}; done
  printf '%s\n' "$text" >"$2"
}
