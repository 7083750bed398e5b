# SPDX-License-Identifier: GPL-2.0-only
# What the suites about snapshots, merge and grow share, on top of helpers.bash.
# shellcheck shell=bash disable=SC2153 # variables of helpers.bash

MODEL=$TOP/build/tests/model

device_size() { blockdev --getsize64 "$DEV"; }

# Of the images that snapshot makes.
VERSION=2

# snapshot FILE [ARG...]: an empty file becomes the top of the running device.
snapshot()
{
	new_image "$1" "$(device_size)" "$VERSION"
	expect OK "$DEV" snapshot "$1" cl="$CL" "${@:2}"
}

# check_image FILE...: what another implementation says about it; it may be attached read-only.
check_image()
{
	local file

	for file; do
		# Without its locks: it would not share the file even with readers.
		qemu-img check -q --image-opts "driver=parallels,file.driver=file,file.locking=off,file.filename=$file" ||
			fail "qemu-img check $file" || return 1
	done
}

# Names of the levels in sysfs must be those of FILE..., base first.
levels_are()
{
	local level=0 file

	for file; do
		is "$SYS/pdelta/$level/image" "$(realpath "$file")" || return 1
		is "$SYS/pdelta/$level/level" "$level" || return 1
		level=$((level + 1))
	done
	[[ ! -e $SYS/pdelta/$level ]] || fail "there is a level $level" || return 1
	is "$SYS/pstate/top" $((level - 1))
}

# unlocked FILE...: the driver has nothing to do with it.
unlocked()
{
	local file

	for file; do
		expect UNLCK "$file" getlk || return 1
	done
}

# Two devices: DEV and SYS are those of the one that was made last, or of this one.
switch_to()
{
	DEV=$1
	SYS=/sys/block/${DEV#/dev/}
}

# --- load: four threads that write, zero, discard, read and know what must be there

# load_begin SEED OPERATIONS [STRIPE_KIB]: in the background, on $DEV; $T/reference is taken over and brought up to date.
load_begin()
{
	"$MODEL" "$DEV" "$1" "$2" 4 "${3:-192}" "$T/reference" >"$T/load" 2>&1 3>&- &
	LOAD=$!
	HELPERS+=("$LOAD")
}

loaded() { kill -0 "$LOAD" 2>/dev/null; }

# The load must have gone well, and the device hold what the reference does.
load_over()
{
	wait "$LOAD" || fail "$(<"$T/load")" || return 1
	same_as_reference
}

# The device may be larger by now: zeros.
same_as_reference()
{
	truncate -s "$(device_size)" "$T/reference"
	cmp "$DEV" "$T/reference"
}

# --- an operation of the driver that is held up in its midst

# Numbers of enum ploop_maintenance.
declare -gA MAINTENANCE=([off]=0 [merge]=257 [grow]=258)

maintains() { [[ $(<"$SYS/pstate/maintenance") == "${MAINTENANCE[$1]}" ]]; }

# DONE TOTAL: at least one cluster is done, and one is not.
amid()
{
	local moved total

	read -r moved total <"$SYS/pstate/progress"
	((moved > 0 && moved < total))
}

# issue OPERATION [ARG...]: the ioctl in the background. Its answer comes to $ANSWER, which is not on the host.
issue()
{
	ANSWER=$BATS_TEST_TMPDIR/answer
	"$IOCTL" "$DEV" "$@" >"$ANSWER" 2>&1 3>&- &
	WAITER=$!
}

# pause merge|grow [ARG...]: the ioctl in the background, until it has moved something; then the host is frozen, so that
# it stays there until thaw.
pause()
{
	local end=$((SECONDS + 60))

	echo 1 >"$SYS/ptune/fsync_max"
	issue "$@"
	# Without a pause between the looks: it may take less than a second.
	until maintains "$1" && amid; do
		kill -0 "$WAITER" 2>/dev/null || fail "it was too quick: $(<"$ANSWER")" || return 1
		((SECONDS <= end)) || fail "it does not begin" || return 1
	done
	freeze
	{ maintains "$1" && amid; } || fail "it was over before the host was frozen"
}

freeze()
{
	fsfreeze -f "$HOST"
	FROZEN=1
}

# freezing FILE: FREEZE then THAW, in the background, of a device whose filesystem is at FILE's; the frozen host holds it
# up. The process is in FREEZER.
freezing()
{
	echo dirty >"$1"
	"$TOP/build/tests/track" "$DEV" freeze thaw >"$BATS_TEST_TMPDIR/freezer" 2>&1 3>&- &
	FREEZER=$!
	wait_for 20 says EBUSY "$DEV" balloon 0 2
}

frozen_and_thawed()
{
	wait "$FREEZER" || true
	is "$BATS_TEST_TMPDIR/freezer" $'OK\nOK'
}

thaw()
{
	[[ ! ${FROZEN:-} ]] || fsfreeze -u "$HOST"
	FROZEN=
}

# waiter_says TEXT: how the ioctl of issue or pause ended.
waiter_says()
{
	wait "$WAITER" || true
	is "$ANSWER" "$1"
}

# crash_copy FILE...: what is in the files of the frozen host now, marks of use taken away as recovery does, goes to
# copies with the suffix .crash, which come into being after the thaw.
crash_copy()
{
	local file

	for file; do
		cp --sparse=always "$file" "$BATS_TEST_TMPDIR/"
	done
	thaw
	for file; do
		cp --sparse=always "$BATS_TEST_TMPDIR/${file##*/}" "$file.crash"
		rm "$BATS_TEST_TMPDIR/${file##*/}"
		[[ $file == *.raw ]] || data poke "$file.crash" 44 32 0
	done
}
