# SPDX-License-Identifier: GPL-2.0-only
# What the suites about balloons share, on top of helpers.bash and stack.bash: a client of the ioctls.
# shellcheck shell=bash disable=SC2153 # variables of helpers.bash

# Numbers of enum ploop_maintenance, by state and, for pause, by the command of the ioctl program.
MAINTENANCE+=([balloon]=1 [fbloaded]=2 [discard]=5 [reloc]=259 [relocblks]=259)

# balloon_is STATE [ALLOC_HEAD LEVEL]: what a question answers, and sysfs.
balloon_is()
{
	expect "$1 ${2:-0} ${3:-0}" "$DEV" balloon 0 2 || return 1
	maintains "${1,,}" || fail "sysfs says $(<"$SYS/pstate/maintenance")"
}

# inflated: OFF becomes BALLOON.
inflated() { expect "BALLOON 0 0" "$DEV" balloon 1 0; }

# At the end of a test: whoever waits for a discard that is kept must be let go.
drop_collected()
{
	"$IOCTL" "$DEV" discard-fini >/dev/null 2>&1 || true
	"$IOCTL" "$DEV" fbdrop >/dev/null 2>&1 || true
}

# Clusters of a file.
file_clusters() { echo $(($(stat -c %s "$1") / (512 << CL))); }

# owned FILE FROM TO: extents of these clusters of the disk, as FREEBLKS wants them; owners FILE FROM TO: of the file.
owned() { data map "$1" clu "$2" "$3"; }
owners() { data map "$1" iblk "$2" "$3"; }

# load_list [EXTENT...]: FREEBLKS; sets HEAD and LEVEL.
load_list()
{
	LEVEL=$(<"$SYS/pstate/top")
	HEAD=$(ioctl "$DEV" freeblks "$LEVEL" "$@") || fail "FREEBLKS: $HEAD"
}

# give_up FILE [FROM TO]...: from OFF to FBLOADED with these clusters of the disk.
give_up()
{
	local file=$1 list=()

	shift
	# What the index says is true from now on.
	inflated || return 1
	while (($#)); do
		mapfile -t -O ${#list[@]} list < <(owned "$file" "$1" "$2")
		shift 2
	done
	load_list "${list[@]}"
}

# The list of free blocks that is loaded, a line each.
loaded_list() { ioctl "$DEV" fbget | tr ' ' '\n' | tail -n +4; }

# tail_of FILE SCANNED: what RELOCBLKS wants to know of the last clusters below HEAD: those in use, and the free ones.
tail_of()
{
	{
		owners "$1" $((HEAD - $2)) "$HEAD" | sed 's/$/:0/'
		loaded_list | awk -F: -v from=$((HEAD - $2)) '
			$2 + $3 > from {
				cut = $2 < from ? from - $2 : 0
				printf "%d:%d:%d:1\n", $1 + cut, $2 + cut, $3 - cut
			}'
	} | sort -t: -n -k2
}

# index_clusters FILE: the clusters before the first for data.
index_clusters() { echo $(($(data peek "$1" 48 32) >> CL)); }

# scan FILE [SCANNED]: sets SCANNED and TAIL to what RELOCBLKS is to get, by default for the whole file.
scan()
{
	SCANNED=${2:-$((HEAD - $(index_clusters "$1")))}
	mapfile -t TAIL < <(tail_of "$1" "$SCANNED")
}

# relocate FILE [SCANNED]: prints the clusters cut.
relocate()
{
	scan "$@"
	ioctl "$DEV" relocblks "$LEVEL" "$HEAD" "$SCANNED" "${TAIL[@]}"
}
