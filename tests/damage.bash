# SPDX-License-Identifier: GPL-2.0-only
# What suites share that check images without the driver, on top of helpers.bash and stack.bash.
# shellcheck shell=bash disable=SC2034,SC2153 # variables of helpers.bash, and for the suites

PLOOP=$TOP/userspace/ploop
IN_USE=44
DIRTY=0x746f6e59
WITH_EXTENSION=0x312e3276
FLAGS=52
EXTENSION=56

setup()
{
	begin
	cd "$T" || return
	clusters 6
	CLUSTER=$((512 << CL))
}

teardown()
{
	cd /
	finish
}

ploop() { "$PLOOP" "$@" 3>&-; }

# exits CODE ARG...: ploop ends so; its messages go to $T/said.
exits()
{
	local want=$1 got=0

	shift
	ploop "$@" >"$T/said" 2>&1 || got=$?
	[[ $got == "$want" ]] || fail "ploop $*: exit status $got instead of $want: $(<"$T/said")"
}

said() { grep -q -e "$1" "$T/said" || fail "not said: $1, but: $(<"$T/said")"; }

# found IMAGE FIELD: what check says about it.
found() { ploop check --json "$1" 2>/dev/null | jq -r ".[0].$2"; }

# --- images, and the disks that are in them

# What an entry counts.
unit_of() { [[ $(head -c 16 "$1") == WithoutFreeSpace ]] && printf %d $((1 << CL)) || printf 1; }

file_clusters() { printf %d $(($(stat -c %s "$1") / CLUSTER)); }

point() { set_entry "$1" "$2" $(($3 * $(unit_of "$1"))); }

# place IMAGE FROM TO: these clusters of the disk get places at the end of the file, in reverse order.
place()
{
	local clu at

	for ((clu = $3; clu >= $2; clu--)); do
		at=$(file_clusters "$1")
		dd if=pattern of="$1" bs="$CLUSTER" skip="$clu" seek="$at" count=1 conv=notrunc status=none
		point "$1" "$clu" "$at"
	done
}

# filled IMAGE VERSION [SIZE]: with clusters 0 to 11 and 200 to 203 of the pattern; 300m has two clusters of index. Made
# once for all tests.
filled()
{
	local model=$HOST/filled-$2-${3:-8m}

	if [[ ! -e $model ]]; then
		truncate -s 8m pattern
		data write pattern 0 8m 1
		new_image model "${3:-8m}" "$2"
		place model 0 11
		place model 200 203
		data poke model $FLAGS 32 0
		mv model "$model"
	fi
	cp --sparse=always "$model" "$1"
}

# same_disk IMAGE: the disk in it, as it is now, right or wrong, is the one in $T/before.
same_disk()
{
	data disk "$1" >now
	cmp now before
}

# good IMAGE: nothing is left to say about it, here or elsewhere.
good()
{
	exits 0 check "$1"
	fails grep -q 'have no entry\|nothing is used' said
	check_image "$1"
	fails in_use "$1"
}

# not_written COMMAND...: to a.
not_written()
{
	local before

	before=$(hash_of a)
	"$@"
	[[ $(hash_of a) == "$before" ]] || fail "written: $*"
}

# only_reported STATUS: nobody writes without being asked, and --repair with -r is a mistake.
only_reported()
{
	not_written exits "$1" check a
	not_written exits "$1" check -f a
	not_written exits "$1" check -r -f a
	not_written exits 38 check -r --repair a
}

# mended STATUS: a is wrong in this way; then it is good and has the same disk.
mended()
{
	data disk a >before
	only_reported "$1"
	exits 0 check --repair a
	said repaired
	good a
	same_disk a
	not_written exits 0 check --repair a
}

# --- kinds of damage

# Two clusters with the place of a third one, and two with that of the last.
duplicate()
{
	local at

	at=$(($(entry "$1" 5) / $(unit_of "$1")))
	point "$1" 100 "$at"
	point "$1" 2 "$at"
	at=$(($(entry "$1" 200) / $(unit_of "$1")))
	point "$1" 250 "$at"
}
