#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only
# Live copy: the user's page, section Migration, in all its forms and under load; the stream, of which the other side may
# be an OpenVZ ploop; and whatever goes wrong.

# shellcheck disable=SC2030,SC2031 # each test has variables of its own

bats_require_minimum_version 1.5.0
load helpers
load stack

PLOOP=$TOP/userspace/ploop
STREAM=$TOP/build/tests/stream
# Moments at which something is killed or spoilt. A thorough run: tests/vm/run -k 6.12 -d images=20g -t 3000 -- \
# tests/vm/guest-setup env COPY_KILLS=50 bats --formatter tap tests/copy.bats
KILLS=${COPY_KILLS:-6}

setup_file() { host_up 4g; }
teardown_file() { host_down; }

setup()
{
	begin
	cd "$T" || return
	mkdir mnt
}

teardown()
{
	load_end || true
	drop_network
	cd /
	finish
}

ploop() { "$PLOOP" "$@" 3>&-; }
stream() { "$STREAM" "$@" 3>&-; }

# device IMAGE [OPTION...]: of 64 MiB with 24 MiB of data; sets DEV and SYS.
device()
{
	local format=ploop1

	[[ $1 != *.raw ]] || format=raw
	ploop init -s 64m -f $format "${@:2}" "$1"
	DEV=$(ploop mount -f $format "$1" | tail -n 1)
	SYS=/sys/block/${DEV#/dev/}
	data write "$DEV" 0 24m 1
}

# Verified writes until load_end; their rate leaves something to copy with.
load_on()
{
	fio --name=load --filename="$1" --size=12m --rw=randwrite --bs=16k --ioengine=libaio --iodepth=4 --direct=1 \
		--rate=3m --verify=crc32c --verify_backlog=64 --verify_fatal=1 --time_based --runtime=600 --thread \
		--output="$T/fio.log" 3>&- &
	LOAD=$!
	echo $LOAD >load.pid
	sleep 1
	kill -0 $LOAD
}

# The -F command of this suite: nobody writes when it is over. fio does not always end when it is told to.
external_stop()
{
	printf '%s' "n=0; while kill -\$([ \$n -lt 20 ] && echo INT || echo KILL) $LOAD 2>/dev/null; do n=\$((n+1)); sleep 0.1; done
		touch $T/stopped"
}

load_end()
{
	[[ ${LOAD:-} ]] || return 0
	sh -c "$(external_stop)"
	wait "$LOAD" || true
	LOAD=
	fails grep -iE 'verify: bad|verify failed|error=' "$T/fio.log"
}

# The device still works, and nothing is under way on it. It may take a moment until who held something is gone.
works()
{
	wait_for 10 is "$SYS/pstate/maintenance" 0
	data write "$DEV" 40m 1m "$RANDOM"
	is "$SYS/pstate/aborted" 0
}

# same SOURCE COPY: byte for byte once the source is detached, and the same disk.
same()
{
	local hash

	load_end
	hash=$(hash_of "$DEV")
	ploop umount -d "$DEV"
	cmp "$1" "$2"
	[[ $1 == *.raw ]] || ploop check "$2"
	DEV=$(ploop mount -f "$([[ $1 == *.raw ]] && echo raw || echo ploop1)" "$2" | tail -n 1)
	[[ $(hash_of "$DEV") == "$hash" ]]
	ploop umount -d "$DEV"
}

no_half_file() { [[ ! -e $1 ]] && (($(find "$T" -name "${1##*/}*" | wc -l) == 0)); }

# --- the page

@test "page, Migration: local" {
	device ploop.image
	load_on "$DEV"
	ploop copy -s "$DEV" -d ploop1.image -F "$(external_stop)"
	[[ -e stopped ]]
	# It is the disk of that moment, and the source goes on.
	works
	ploop mount -d /dev/ploop7 ploop1.image
	data verify /dev/ploop7 12m 12m 1
	data verify /dev/ploop7 40m 1m 0
}

@test "page, Migration: local, the copy is the source, whatever its format" {
	local image

	for image in v2.image v1.image base.raw; do
		device $image -v "$([[ $image == v1* ]] && echo 1 || echo 2)"
		load_on "$DEV"
		ploop copy -s "$DEV" -d copy-$image -F "$(external_stop)"
		is "$SYS/pstate/maintenance" 0
		same $image copy-$image
		rm stopped
	done
}

@test "page, Migration: two commands and a pipe" {
	device ploop.image
	load_on "$DEV"
	ploop copy -s "$DEV" -F "$(external_stop)" 2>send.log | ploop copy -d ploop1.image
	((PIPESTATUS[0] == 0 && PIPESTATUS[1] == 0))
	grep sent send.log
	same ploop.image ploop1.image
}

# Two machines: there is a wire between the name spaces.
network()
{
	ip netns add node01
	ip netns add node02
	ip link add wire1 netns node01 type veth peer name wire2 netns node02
	ip -n node01 addr add 10.9.0.1/24 dev wire1
	ip -n node02 addr add 10.9.0.2/24 dev wire2
	ip -n node01 link set wire1 up
	ip -n node02 link set wire2 up
}

drop_network()
{
	ip netns del node01 2>/dev/null || true
	ip netns del node02 2>/dev/null || true
}

# receiver COMMAND...: on node01, its input is a connection.
receiver()
{
	ip netns exec node01 "$STREAM" serve 7000 "$@" >receive.log 2>&1 3>&- &
	RECEIVER=$!
	wait_for 10 listens
}

listens() { ip netns exec node01 ss -ltn | grep -q :7000; }

@test "page, Migration: two nodes and a TCP connection" {
	network
	device ploop.image
	load_on "$DEV"
	receiver "$PLOOP" copy -d ploop1.image
	# shellcheck disable=SC2016 # of the inner shell
	ip netns exec node02 bash -c 'exec "$0" copy -s "$1" -F "$2" >/dev/tcp/10.9.0.1/7000' \
		"$PLOOP" "$DEV" "$(external_stop)" 2>send.log 3>&-
	wait $RECEIVER
	# A socket has a way back.
	fails grep 'does not tell' send.log
	same ploop.image ploop1.image
}

@test "a receiver that fails at the very end tells a sender that listens" {
	network
	device ploop.image
	receiver "$PLOOP" copy -d ploop1.image
	# Its name is taken in the last moment.
	# shellcheck disable=SC2016 # of the inner shell
	fails ip netns exec node02 bash -c 'exec "$0" copy -s "$1" -F "$2" >/dev/tcp/10.9.0.1/7000' \
		"$PLOOP" "$DEV" "touch $T/ploop1.image" 2>send.log 3>&-
	fails wait $RECEIVER
	grep 'exit code 38' send.log
	grep 'exists already' receive.log
	works
}

@test "a file system under load: frozen and thawed, the copy is clean" {
	ploop init -s 64m -t ext4 ploop.image
	DEV=$(ploop mount -m mnt ploop.image | tail -n 1)
	SYS=/sys/block/${DEV#/dev/}
	load_on mnt/fio
	ploop copy -s "$DEV" -d ploop1.image -F "$(external_stop); echo last >$T/mnt/last"
	# It goes on.
	echo more >mnt/more
	load_end
	ploop umount -m mnt
	ploop mount -r -d /dev/ploop7 ploop1.image
	wait_for 10 test -b /dev/ploop7p1
	e2fsck -fn /dev/ploop7p1
	mount -o ro /dev/ploop7p1 mnt
	is mnt/last last
	[[ ! -e mnt/more ]]
	umount mnt
}

@test "only the top is copied; discards, holes and new clusters meanwhile" {
	device base.image
	ploop snapshot -d "$DEV" top.image
	data write "$DEV" 4m 16m 2
	load_on "$DEV"
	ploop copy -s "$DEV" -d copy.image -F "$(external_stop); blkdiscard -o 16m -l 4m $DEV
		$DATA write $DEV 48m 8m 3" --limit-rate 16m
	load_end
	ploop umount -d "$DEV"
	cmp top.image copy.image
	ploop mount -d /dev/ploop7 base.image copy.image
	data verify /dev/ploop7 48m 8m 3
	data verify /dev/ploop7 20m 4m 1
	data verify /dev/ploop7 12m 4m 2
	data verify /dev/ploop7 16m 4m 0
	# Sparse: the disk has 64 MiB, the index one cluster.
	(($(stat -c '%b' copy.image) <= $(stat -c '%b' top.image)))
}

@test "nobody stops the writers: after the freeze they are refused, the copy is whole" {
	device ploop.image
	fio --name=load --filename="$DEV" --size=16m --rw=randwrite --bs=256k --ioengine=libaio --iodepth=4 --direct=1 \
		--time_based --runtime=600 --thread --output="$T/fio.log" 3>&- &
	LOAD=$!
	sleep 1
	if ploop copy -s "$DEV" -d ploop1.image 2>log; then
		[[ -e ploop1.image ]]
	else
		grep 'still written to' log
		no_half_file ploop1.image
	fi
	load_end
	works
}

# steps_of CALLS: of the sender's main thread, which copies $DEV; into $T/steps.
steps_of()
{
	strace -qq -e trace="$1" -o steps "$PLOOP" copy -s "$DEV" -d first.image 3>&-
}

@test "the file grows while it is read: what is there now is copied" {
	local n

	device ploop.image
	steps_of ioctl,newfstatat
	# The second time after TRACK_INIT that the sender looks where its file ends, it sees 1 MiB: 8 bytes behind 48.
	n=$(awk -F '[(,]' '/^ioctl.*0x50, 0x6, / { on = 1 } /^newfstatat/ { n++ }
		on && /^newfstatat/ { seen[$2]++; if (seen[$2] == 2) { print n; exit } }' steps)
	strace -qq -o steps -e trace=newfstatat -e inject="newfstatat:poke_exit=@arg3=$(printf %096d 0)0000100000000000:when=$n" \
		"$PLOOP" copy -s "$DEV" -d copy.image 3>&-
	grep 'st_size=1048576.*INJECTED' steps
	same ploop.image copy.image
}

@test "the header is that of the moment when tracking ended, whatever is done to the device then" {
	local n

	device ploop.image
	steps_of ioctl
	n=$(nth_call ioctl '0x50, 0x7, ' steps)
	strace -qq -o steps -e trace=ioctl -e inject="ioctl:delay_exit=8000000:when=$n" \
		"$PLOOP" copy -s "$DEV" -d copy.image -F "touch $T/stopped" 3>&- &
	SENDER=$!
	wait_for 20 test -e stopped
	wait_for 20 is "$SYS/pstate/maintenance" 0
	expect OK "$DEV" grow $((128 << 11)) cl="$CL"
	kill -0 $SENDER
	wait $SENDER
	grep '0x50, 0x7, .*INJECTED\|0x50, 0x7, .*DELAYED' steps
	cmp first.image copy.image
	works
}

# --- the command line

@test "usage, terminals, places" {
	device ploop.image
	for args in "" "-s" "-s $DEV extra" "-d x -F true" "-d x --limit-rate 1m" "-s $DEV -d x --limit-rate 0" \
		"-s $DEV -d x --limit-rate 5q"; do
		# shellcheck disable=SC2086
		run -38 "$PLOOP" copy $args </dev/null
	done
	run -0 "$PLOOP" copy --help
	[[ $output == *--limit-rate* ]]
	# Terminals are refused, and so is what cannot be a stream.
	run -38 script -qec "$PLOOP copy -s $DEV" /dev/null
	run -38 script -qec "$PLOOP copy -d x" /dev/null
	run -38 bash -c "$PLOOP copy -s $DEV >/dev/null"
	run -38 bash -c "$PLOOP copy -d x </dev/null"
	# What exists stays, and nobody is stopped in vain.
	echo precious >x
	run -38 "$PLOOP" copy -s "$DEV" -d x -F "touch $T/stopped"
	is x precious
	[[ ! -e stopped ]]
	# Not on the device itself.
	mkfs.ext4 -q -F "$DEV"
	mount "$DEV" mnt
	run -38 "$PLOOP" copy -s "$DEV" -d mnt/x
	run -38 bash -c "$PLOOP copy -s $DEV >mnt/x"
	umount mnt
	run -40 "$PLOOP" copy -s /dev/ploop77 -d y
	no_half_file y
	works
}

@test "the rate is kept, and a signal ends it" {
	local start=$SECONDS status=0 pid

	device ploop.image
	ploop copy -s "$DEV" -d ploop1.image --limit-rate 8m
	((SECONDS - start >= 3))
	"$PLOOP" copy -s "$DEV" -d ploop2.image --limit-rate 1m 2>log 3>&- &
	pid=$!
	wait_for 10 is "$SYS/pstate/maintenance" 4
	kill -TERM $pid
	wait $pid || status=$?
	((status == 34))
	[[ $(grep -c cancelled log) == 1 ]]
	no_half_file ploop2.image
	works
}

@test "the stop command fails: so does the copy; the device goes on, thawed" {
	device ploop.image
	mkfs.ext4 -q -F "$DEV"
	mount "$DEV" mnt
	run -12 "$PLOOP" copy -s "$DEV" -d ploop1.image -F "exit 3"
	[[ $output == *"status 3"* ]]
	no_half_file ploop1.image
	timeout 20 sh -c 'echo x >mnt/x; sync -f mnt/x'
	run -12 bash -c "set -o pipefail; $PLOOP copy -s $DEV -F 'kill -9 \$\$' | { $PLOOP copy -d ploop1.image || [ \$? = 6 ]; }"
	no_half_file ploop1.image
	umount mnt
	works
}

# --- the stream

@test "a stream made by hand is taken, with and without what version 1.12 added" {
	device ploop.image
	ploop umount -d "$DEV"
	for args in "1m" "64k sync" "4000 twice" "1m twice sync"; do
		rm -f copy
		# shellcheck disable=SC2086
		stream make ploop.image $args | ploop copy -d copy
		cmp ploop.image copy
	done
	for args in "1m endless" "1m far" "1m huge"; do
		# shellcheck disable=SC2086
		fails bash -c "set -o pipefail; $STREAM make ploop.image $args 2>/dev/null | $PLOOP copy -d bad 2>log"
		grep -E 'ends before|out of range' log
		no_half_file bad
	done
	: | run -6 "$PLOOP" copy -d bad
	head -c 16 /dev/zero | run -13 "$PLOOP" copy -d bad
	# The end and nothing else.
	printf '\x3d\xac\xc0\x4c\0\0\0\0\0\0\0\0\0\0\0\0' | run -13 "$PLOOP" copy -d bad
	no_half_file bad
}

@test "our stream is understood by one who knows the plain format only" {
	local image

	for image in v2.image base.raw; do
		device $image
		load_on "$DEV"
		ploop copy -s "$DEV" -F "$(external_stop)" | stream parse copy-$image
		((PIPESTATUS[0] == 0 && PIPESTATUS[1] == 0))
		same $image copy-$image
	done
}

@test "whatever bit is flipped, wherever the stream is cut: refused" {
	local size i at

	device ploop.image
	ploop copy -s "$DEV" >stream
	works
	size=$(stat -c %s stream)
	ploop copy -d good <stream
	rm good
	# The places where it hurts most, and some others.
	for at in 0 4 8 16 24 32 40 60 76 80 84 88 96 104 120 158 $((size - 1)) $((size - 12)) $((size - 30)); do
		spoilt $at
	done
	for ((i = 0; i < KILLS; i++)); do
		at=$((RANDOM * RANDOM % size))
		spoilt $at
		head -c $at stream | run -6 "$PLOOP" copy -d bad
		no_half_file bad
	done
}

# spoilt OFFSET
spoilt()
{
	local status=0

	cp --reflink=auto stream spoilt
	data poke spoilt $(($1 / 4 * 4)) 32 $(($(data peek stream $(($1 / 4 * 4)) 32) ^ 1 << ($1 % 4 * 8)))
	ploop copy -d bad <spoilt 2>log || status=$?
	((status == 13 || status == 6)) || fail "bit in byte $1: status $status" || return 1
	[[ -s log ]]
	no_half_file bad
}

# --- whatever goes wrong

# copy_in_background RATE: through a pipe of two processes; sets SENDER and RECEIVER.
copy_in_background()
{
	rm -f pipe
	mkfifo pipe
	"$PLOOP" copy -d ploop1.image <pipe 2>receive.log 3>&- &
	RECEIVER=$!
	"$PLOOP" copy -s "$DEV" --limit-rate "$1" >pipe 2>send.log 3>&- &
	SENDER=$!
}

# after_failure: both sides have failed and said so, except who was killed.
after_failure()
{
	local status

	for side in SENDER RECEIVER; do
		status=0
		wait "${!side}" || status=$?
		((status)) || fail "$side has not failed" || return 1
		if [[ $side == SENDER ]]; then
			((status == 137)) || grep -q ploop: send.log
		else
			((status == 137)) || grep -q ploop: receive.log
		fi
	done
	no_half_file ploop1.image
	works
}

@test "sender or receiver killed at any moment" {
	local i side

	device ploop.image
	for ((i = 0; i < KILLS; i++)); do
		copy_in_background 24m
		sleep "$((i * 9 / KILLS / 10)).$((i * 9 / KILLS % 10))"
		side=$SENDER
		((i % 2)) || side=$RECEIVER
		kill -KILL "$side"
		after_failure
	done
	# Local: both at once.
	for ((i = 0; i < KILLS / 2; i++)); do
		"$PLOOP" copy -s "$DEV" -d ploop1.image --limit-rate 24m 3>&- &
		sleep 0.$((RANDOM % 9))
		kill -KILL $!
		wait $! || true
		no_half_file ploop1.image
		works
	done
	ploop copy -s "$DEV" -d ploop1.image
	same ploop.image ploop1.image
}

# hung_write: a write to the mounted device, and is it held up? The next one is tried when it was too early.
hung_write()
{
	rm -f written
	sh -c 'echo x >mnt/x; sync -f mnt/x; touch written' 3>&- &
	sleep 2
	[[ ! -e written ]]
}

@test "killed while the file system is frozen: it is thawed" {
	local i

	device ploop.image
	mkfs.ext4 -q -F "$DEV"
	mount "$DEV" mnt
	mkfifo pipe
	for ((i = 0; i < 2; i++)); do
		rm -f stopped
		"$PLOOP" copy -s "$DEV" -F "$DATA write $DEV 44m 16m 7; touch stopped" >pipe 2>send.log 3>&- &
		SENDER=$!
		exec {READ}<pipe
		# Nobody reads any more: what the stop command writes does not fit into the pipe.
		until [[ -e stopped ]]; do
			timeout 60 head -c 256k <&"$READ" >/dev/null
		done
		# The stop command has ended; the sender has yet to see that and to freeze.
		wait_for 30 hung_write
		kill -KILL $SENDER
		wait $SENDER || true
		exec {READ}<&-
		wait_for 20 test -e written
		wait_for 10 is "$SYS/pstate/maintenance" 0
	done
	umount mnt
	works
}

@test "the disk of the receiver fills up" {
	local disk status

	device ploop.image
	disk=$(scratch_disk small 20m)
	make_fs ext4 "$disk" "$T/small"
	run -7 "$PLOOP" copy -s "$DEV" -d small/copy
	[[ $output == *"No space left"* ]]
	[[ $(find small -type f | wc -l) == 0 ]]
	works
	status=0
	{ "$PLOOP" copy -s "$DEV" 2>send.log || echo $? >sender; } | "$PLOOP" copy -d small/copy 2>receive.log || status=$?
	((status == 7))
	is sender 7
	grep 'No space left' receive.log
	grep 'receiver has ended' send.log
	[[ $(find small -type f | wc -l) == 0 ]]
	works
	# The space is there again.
	(($(stat -f -c '%f * 100 / %b' small) > 50))
	ploop copy -s "$DEV" -d ploop1.image
	umount small
	losetup -d "$disk"
	same ploop.image ploop1.image
}

@test "one maintenance at a time: others wait or are refused" {
	device ploop.image
	# It goes on until it is told to end.
	"$PLOOP" copy -s "$DEV" -d ploop1.image -F "until [ -e $T/end ]; do sleep 0.1; done" 3>&- &
	SENDER=$!
	wait_for 10 is "$SYS/pstate/maintenance" 4
	fails ploop copy -s "$DEV" -d ploop2.image
	no_half_file ploop2.image
	fails ploop snapshot -d "$DEV" top.image
	[[ $(ploop info --json "$DEV") == *TRACK* ]]
	expect EBUSY "$DEV" merge
	touch end
	wait $SENDER
	ploop snapshot -d "$DEV" top.image
	works
}
