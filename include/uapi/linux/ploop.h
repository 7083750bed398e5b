/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * ploop ioctl ABI.
 *
 * The numbers, sizes and meanings below are those of the OpenVZ driver, so
 * that its userspace runs unmodified; only the /dev/ploop-control part is new.
 */
#ifndef _UAPI_LINUX_PLOOP_H
#define _UAPI_LINUX_PLOOP_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * DOC: ploop control interface
 *
 * Every command is issued on a device node (the whole disk or one of its
 * partitions) and needs CAP_SYS_ADMIN in the initial namespace, else EPERM.
 * An unknown command answers EINVAL, never ENOTTY: old clients test for it.
 * The direction bits of the old numbers are not always true; dispatch is on
 * the whole 32-bit number.
 *
 * Units: a sector is 512 bytes. A cluster is 1 << cluster_log sectors.
 */

/** PLOOP_MAJOR: block major of all ploop devices */
#define PLOOP_MAJOR		182
/** PLOOP_MINOR_SHIFT: minor = index << PLOOP_MINOR_SHIFT */
#define PLOOP_MINOR_SHIFT	4
/** PLOOP_MAX_LEVELS: deltas a device may stack; levels are 0..127 */
#define PLOOP_MAX_LEVELS	128
/** PLOOP_COOKIE_SIZE: bytes of the cookie, with its terminating NUL */
#define PLOOP_COOKIE_SIZE	64
/** PLOOP_CLUSTER_LOG_MIN: 64 sectors, 32 KiB */
#define PLOOP_CLUSTER_LOG_MIN	6
/** PLOOP_CLUSTER_LOG_MAX: 131072 sectors, 64 MiB */
#define PLOOP_CLUSTER_LOG_MAX	17
/** PLOOP_CLUSTER_LOG_DEFAULT: 2048 sectors, 1 MiB */
#define PLOOP_CLUSTER_LOG_DEFAULT 11

/**
 * enum ploop_format_id - image formats, ploop_ctl.format
 * @PLOOP_FMT_RAW: plain file, only as level 0
 * @PLOOP_FMT_PLOOP1: file with header and index, see ploop1_image.h
 */
enum ploop_format_id {
	PLOOP_FMT_RAW		= 1,
	PLOOP_FMT_PLOOP1	= 2,
};

/**
 * enum ploop_io_id - I/O engines, ploop_ctl_chunk.type
 * @PLOOP_IO_AUTO: the driver chooses
 * @PLOOP_IO_DIRECT: direct I/O on a file of a local filesystem
 * @PLOOP_IO_NFS: not supported here
 * @PLOOP_IO_RESERVED: not supported here
 * @PLOOP_IO_KAIO: not supported here
 */
enum ploop_io_id {
	PLOOP_IO_AUTO		= 0,
	PLOOP_IO_DIRECT		= 1,
	PLOOP_IO_NFS		= 2,
	PLOOP_IO_RESERVED	= 3,
	PLOOP_IO_KAIO		= 4,
};

/** PLOOP_CTLF_RDONLY: attach the delta read-only; needs a non-writable fd */
#define PLOOP_CTLF_RDONLY	0x00000001u
/** PLOOP_CTLF_COOKIE: a cookie of PLOOP_COOKIE_SIZE bytes follows the chunk */
#define PLOOP_CTLF_COOKIE	0x00000004u
/** PLOOP_CTLF_CLUBLKS: GROW: ploop_ctl.size counts clusters, not sectors */
#define PLOOP_CTLF_CLUBLKS	0x00000008u
/** PLOOP_CTLF_FS_SYNC: SNAPSHOT: freeze the filesystem on the device */
#define PLOOP_CTLF_FS_SYNC	0x10000000u

/**
 * enum ploop_maintenance - maintenance state of a device
 * @PLOOP_MNTN_OFF: none
 * @PLOOP_MNTN_BALLOON: a balloon file is being inflated
 * @PLOOP_MNTN_FBLOADED: the list of free blocks is loaded
 * @PLOOP_MNTN_SNAPSHOT: a snapshot freezes the filesystem
 * @PLOOP_MNTN_TRACK: writes are tracked for a live copy
 * @PLOOP_MNTN_DISCARD: discards are collected
 * @PLOOP_MNTN_MERGE: the top delta is merged into the next
 * @PLOOP_MNTN_GROW: the device grows
 * @PLOOP_MNTN_RELOC: clusters are relocated
 */
enum ploop_maintenance {
	PLOOP_MNTN_OFF		= 0,
	PLOOP_MNTN_BALLOON	= 1,
	PLOOP_MNTN_FBLOADED	= 2,
	PLOOP_MNTN_SNAPSHOT	= 3,
	PLOOP_MNTN_TRACK	= 4,
	PLOOP_MNTN_DISCARD	= 5,
	PLOOP_MNTN_MERGE	= 257,
	PLOOP_MNTN_GROW		= 258,
	PLOOP_MNTN_RELOC	= 259,
};

/**
 * enum ploop_event - value read from sysfs pstate/event
 * @PLOOP_EVENT_ABORTED: an index write failed; writes answer EIO
 * @PLOOP_EVENT_STOPPED: the device does not run
 * @PLOOP_EVENT_ENOSPC: the host has no space; writers wait
 */
enum ploop_event {
	PLOOP_EVENT_ABORTED	= 1,
	PLOOP_EVENT_STOPPED	= 2,
	PLOOP_EVENT_ENOSPC	= 3,
};

/**
 * struct ploop_ctl - argument of ADD_DELTA, SNAPSHOT, REPLACE_DELTA and GROW
 * @format: enum ploop_format_id
 * @flags: PLOOP_CTLF_*
 * @cluster_log: log2 of the cluster size in sectors,
 *               PLOOP_CLUSTER_LOG_MIN..PLOOP_CLUSTER_LOG_MAX
 * @size: GROW only: new size in sectors, or in clusters with CLUBLKS
 * @chunks: number of struct ploop_ctl_chunk that follow; 1 (GROW: 0)
 * @level: REPLACE_DELTA only: the level to replace
 * @mbz1: zero
 * @mbz2: zero
 */
struct ploop_ctl {
	__u32 format;
	__u32 flags;
	__u32 cluster_log;
	__u32 size;
	__u16 chunks;
	__u8  level;
	__u8  mbz1;
	__u32 mbz2;
} __attribute__((aligned(8)));

/**
 * struct ploop_ctl_chunk - the file of a delta
 * @fd: open file; writable unless PLOOP_CTLF_RDONLY, not writable with it
 * @type: enum ploop_io_id
 * @flags: zero
 * @offset: zero
 * @start: zero
 * @len: zero
 */
struct ploop_ctl_chunk {
	__s32 fd;
	__u32 type;
	__u32 flags;
	__u32 offset;
	__u64 start;
	__u64 len;
} __attribute__((aligned(8)));

/**
 * struct ploop_ctl_delta - what a client passes to ADD_DELTA and SNAPSHOT
 * @ctl: the delta
 * @chunk: its file
 * @cookie: NUL-terminated name of the device for its user; read only with
 *          PLOOP_CTLF_COOKIE, and only for the first delta
 */
struct ploop_ctl_delta {
	struct ploop_ctl ctl;
	struct ploop_ctl_chunk chunk;
	char cookie[PLOOP_COOKIE_SIZE];
} __attribute__((aligned(8)));

/**
 * struct ploop_getdevice_ctl - result of GETDEVICE
 * @minor: out: first minor of a device without deltas
 * @mbz: zero
 */
struct ploop_getdevice_ctl {
	__u32 minor;
	__u32 mbz;
} __attribute__((aligned(8)));

/**
 * struct ploop_truncate_ctl - argument of TRUNCATE
 * @fd: open, writable file of the delta
 * @alloc_head: clusters the file keeps
 * @level: the delta; attached read-only
 * @mbz1: zero
 * @mbz2: zero
 */
struct ploop_truncate_ctl {
	__s32 fd;
	__u32 alloc_head;
	__u8  level;
	__u8  mbz1;
	__u16 mbz2;
} __attribute__((aligned(8)));

/**
 * struct ploop_reloc_map - new place of a cluster, for UPDATE_INDEX
 * @req_cluster: cluster of the device
 * @iblk: cluster of the image file
 */
struct ploop_reloc_map {
	__u32 req_cluster;
	__u32 iblk;
} __attribute__((aligned(8)));

/**
 * struct ploop_index_update_ctl - argument of UPDATE_INDEX
 * @n_maps: number of elements of @reloc_map
 * @level: the delta; attached read-only
 * @mbz1: zero
 * @mbz2: zero
 * @reloc_map: what the client has moved in the file, index included
 */
struct ploop_index_update_ctl {
	__u32 n_maps;
	__u8  level;
	__u8  mbz1;
	__u16 mbz2;
	struct ploop_reloc_map reloc_map[];
} __attribute__((aligned(8)));

/**
 * struct ploop_balloon_ctl - argument of BALLOON
 * @mntn_type: out: enum ploop_maintenance after the call
 * @alloc_head: out, FBLOADED and RELOC: end of the image file when the list of
 *              free blocks was loaded, clusters; else 0
 * @level: out, FBLOADED and RELOC: the top level then; else 0
 * @inflate: 1: OFF becomes BALLOON
 * @keep_intact: 0: BALLOON becomes OFF unless @inflate; 1: it stays;
 *               2: a question only, nothing changes
 * @mbz: zero
 * @pad: nothing
 */
struct ploop_balloon_ctl {
	__u32 mntn_type;
	__u32 alloc_head;
	__u8  level;
	__u8  inflate;
	__u8  keep_intact;
	__u8  mbz;
	__u32 pad;
} __attribute__((aligned(8)));

/**
 * struct ploop_freeblks_extent - consecutive clusters whose content nobody needs
 * @clu: first cluster of the device
 * @iblk: where the top's image file has it, in clusters; the others follow
 * @len: number of clusters
 * @pad: nothing
 */
struct ploop_freeblks_extent {
	__u32 clu;
	__u32 iblk;
	__u32 len;
	__u32 pad;
} __attribute__((aligned(8)));

/**
 * struct ploop_freeblks_ctl - argument of FREEBLKS and FBGET
 * @n_extents: number of elements of @extents; FBGET: in: how many there is room
 *             for, 0: only count; out: how many there are
 * @alloc_head: out: end of the image file when the list was loaded, clusters
 * @level: the top level; FREEBLKS: in, FBGET: out
 * @pad: nothing; old clients do not clear it
 * @extents: FREEBLKS: in, in any order; FBGET: out, by @iblk
 */
struct ploop_freeblks_ctl {
	__u32 n_extents;
	__u32 alloc_head;
	__u8  level;
	__u8  pad[7];
	struct ploop_freeblks_extent extents[];
} __attribute__((aligned(8)));

/**
 * struct ploop_relocblks_extent - consecutive clusters at the end of an image file
 * @clu: first cluster of the device
 * @iblk: where the top's image file has it, in clusters
 * @len: number of clusters
 * @free: 1: they are in the list of free blocks, 0: they have to be kept
 */
struct ploop_relocblks_extent {
	__u32 clu;
	__u32 iblk;
	__u32 len;
	__u32 free;
} __attribute__((aligned(8)));

/**
 * struct ploop_relocblks_ctl - argument of RELOCBLKS
 * @n_extents: number of elements of @extents
 * @n_scanned: clusters before @alloc_head that the list is about
 * @alloc_head: in: as from FREEBLKS; out: clusters the file became shorter by
 * @level: as given to FREEBLKS
 * @mbz1: zero
 * @mbz2: zero
 * @extents: every cluster in use among those scanned, and free ones, by @iblk
 */
struct ploop_relocblks_ctl {
	__u32 n_extents;
	__u32 n_scanned;
	__u32 alloc_head;
	__u8  level;
	__u8  mbz1;
	__u16 mbz2;
	struct ploop_relocblks_extent extents[];
} __attribute__((aligned(8)));

/**
 * struct ploop_track_extent - a part of the top's image file
 * @start: first byte
 * @end: one past the last byte
 */
struct ploop_track_extent {
	__u64 start;
	__u64 end;
} __attribute__((aligned(8)));

/** PLOOP_IOC_ADD_DELTA: struct ploop_ctl_delta; new top level of a stopped device */
#define PLOOP_IOC_ADD_DELTA	_IOW('P', 0, struct ploop_ctl)
/** PLOOP_IOC_CLEAR: detach all deltas of a stopped device */
#define PLOOP_IOC_CLEAR		_IO('P', 1)
/** PLOOP_IOC_STOP: stop the device; the caller must be its only opener */
#define PLOOP_IOC_STOP		_IO('P', 2)
/** PLOOP_IOC_START: run the device */
#define PLOOP_IOC_START		_IO('P', 3)
/**
 * PLOOP_IOC_SNAPSHOT: struct ploop_ctl_delta; an empty delta becomes the top of
 * a running device, the old top read-only; on a stopped one like ADD_DELTA
 */
#define PLOOP_IOC_SNAPSHOT	_IOW('P', 4, struct ploop_ctl)
/** PLOOP_IOC_DEL_DELTA: __u32 level; take a delta out of the stack */
#define PLOOP_IOC_DEL_DELTA	_IOW('P', 5, __u32)
/**
 * PLOOP_IOC_TRACK_INIT: struct ploop_track_extent, out: all that is to be copied;
 * writes to the top's image file are noted from now on. Ends with the process
 */
#define PLOOP_IOC_TRACK_INIT	_IOR('P', 6, struct ploop_track_extent)
/** PLOOP_IOC_TRACK_STOP: end of tracking, unless there are notes: EBUSY */
#define PLOOP_IOC_TRACK_STOP	_IO('P', 7)
/** PLOOP_IOC_TRACK_ABORT: end of tracking */
#define PLOOP_IOC_TRACK_ABORT	_IO('P', 8)
/** PLOOP_IOC_TRACK_SETPOS: __u64 bytes; what lies below is read after this */
#define PLOOP_IOC_TRACK_SETPOS	_IOW('P', 9, __u64)
/**
 * PLOOP_IOC_TRACK_READ: struct ploop_track_extent, out: what was written behind the
 * position, or what lies beyond it; EAGAIN: nothing
 */
#define PLOOP_IOC_TRACK_READ	_IOR('P', 10, struct ploop_track_extent)
/** PLOOP_IOC_SYNC: make data, index and header durable */
#define PLOOP_IOC_SYNC		_IO('P', 11)
/**
 * PLOOP_IOC_MERGE: move the top delta into the one below it; waits, and goes on
 * in the background when a signal ends the wait: call again to wait on
 */
#define PLOOP_IOC_MERGE		_IO('P', 12)
/** PLOOP_IOC_REPLACE_DELTA: struct ploop_ctl_delta; same content, other file */
#define PLOOP_IOC_REPLACE_DELTA	_IOW('P', 13, struct ploop_ctl)
/** PLOOP_IOC_TRUNCATE: struct ploop_truncate_ctl; cut the file of a delta */
#define PLOOP_IOC_TRUNCATE	_IOW('P', 14, struct ploop_truncate_ctl)
/** PLOOP_IOC_UPDATE_INDEX: struct ploop_index_update_ctl; clusters were moved */
#define PLOOP_IOC_UPDATE_INDEX	_IOW('P', 16, struct ploop_index_update_ctl)
/**
 * PLOOP_IOC_GROW: struct ploop_ctl; make a running device larger; waits like
 * MERGE. Without an argument: wait for a grow that is under way
 */
#define PLOOP_IOC_GROW		_IOW('P', 17, struct ploop_ctl)
/**
 * PLOOP_IOC_FBGET: struct ploop_freeblks_ctl; the list of free blocks; ENOSPC
 * when there is no room for it
 */
#define PLOOP_IOC_FBGET		_IOW('P', 18, struct ploop_freeblks_ctl)
/** PLOOP_IOC_BALLOON: struct ploop_balloon_ctl; ask for the state, or change it */
#define PLOOP_IOC_BALLOON	_IOW('P', 19, struct ploop_balloon_ctl)
/**
 * PLOOP_IOC_FREEBLKS: struct ploop_freeblks_ctl; BALLOON becomes FBLOADED: what
 * these clusters hold is given up
 */
#define PLOOP_IOC_FREEBLKS	_IOW('P', 20, struct ploop_freeblks_ctl)
/**
 * PLOOP_IOC_RELOCBLKS: struct ploop_relocblks_ctl; make the image file shorter;
 * waits like MERGE
 */
#define PLOOP_IOC_RELOCBLKS	_IOW('P', 21, struct ploop_relocblks_ctl)
/** PLOOP_IOC_GETDEVICE: find a free device; racy, see PLOOP_CTL_GET */
#define PLOOP_IOC_GETDEVICE	_IOW('P', 22, struct ploop_getdevice_ctl)
/** PLOOP_IOC_DISCARD_INIT: OFF becomes DISCARD: the next discard is collected */
#define PLOOP_IOC_DISCARD_INIT	_IO('P', 23)
/** PLOOP_IOC_DISCARD_FINI: end of DISCARD */
#define PLOOP_IOC_DISCARD_FINI	_IO('P', 24)
/** PLOOP_IOC_DISCARD_WAIT: wait for a discard: 1, or for DISCARD_FINI: 0 */
#define PLOOP_IOC_DISCARD_WAIT	_IO('P', 25)
/** PLOOP_IOC_FBDROP: forget the list of free blocks */
#define PLOOP_IOC_FBDROP	_IO('P', 26)
/**
 * PLOOP_IOC_FBFILTER: the argument is a number of clusters; forget shorter extents
 * of a collected discard; returns how many clusters are left
 */
#define PLOOP_IOC_FBFILTER	_IOR('P', 27, unsigned long)
/** PLOOP_IOC_MAX_DELTA_SIZE: __u64 sectors; limit of the top delta's file */
#define PLOOP_IOC_MAX_DELTA_SIZE _IOW('P', 28, __u64)
/**
 * PLOOP_IOC_FREEZE: freeze what is mounted from the device; thawed when the
 * process ends
 */
#define PLOOP_IOC_FREEZE	_IO('P', 32)
/** PLOOP_IOC_THAW: undo FREEZE */
#define PLOOP_IOC_THAW		_IO('P', 33)

/** PLOOP_CONTROL_VERSION: version of struct ploop_control_device */
#define PLOOP_CONTROL_VERSION	1
/** PLOOP_CONTROL_ANY: ploop_control_device.index: the driver chooses */
#define PLOOP_CONTROL_ANY	(-1)

/**
 * struct ploop_control_device - argument of the /dev/ploop-control commands
 * @version: PLOOP_CONTROL_VERSION, else EINVAL
 * @flags: zero, else EINVAL
 * @index: in: device index or PLOOP_CONTROL_ANY; out: the device's index
 * @reserved: zero, else EINVAL
 */
struct ploop_control_device {
	__u32 version;
	__u32 flags;
	__s32 index;
	__u32 reserved[5];
};

/**
 * PLOOP_CTL_GET: create or find a device without deltas and reserve it
 *
 * The device stays reserved for the open control file until that file is
 * closed or gets another device; reservation keeps GET, GETDEVICE and
 * /proc/vz/ploop_minor from handing it out twice. Errors: EBUSY the wanted
 * device has deltas or is reserved by another; ENOSPC no index is left.
 */
#define PLOOP_CTL_GET		_IOWR('P', 0x40, struct ploop_control_device)
/**
 * PLOOP_CTL_REMOVE: remove a device without deltas, and its node
 *
 * Errors: ENODEV no such device; EBUSY it has deltas, is open, or is reserved
 * by another control file.
 */
#define PLOOP_CTL_REMOVE	_IOWR('P', 0x41, struct ploop_control_device)

#ifndef __cplusplus
_Static_assert(sizeof(struct ploop_ctl) == 24, "ploop_ctl");
_Static_assert(sizeof(struct ploop_ctl_chunk) == 32, "ploop_ctl_chunk");
_Static_assert(sizeof(struct ploop_ctl_delta) == 120, "ploop_ctl_delta");
_Static_assert(sizeof(struct ploop_getdevice_ctl) == 8, "ploop_getdevice_ctl");
_Static_assert(sizeof(struct ploop_control_device) == 32, "ploop_control_device");
_Static_assert(PLOOP_IOC_ADD_DELTA == 0x40185000, "ADD_DELTA");
_Static_assert(PLOOP_IOC_CLEAR == 0x5001, "CLEAR");
_Static_assert(PLOOP_IOC_STOP == 0x5002, "STOP");
_Static_assert(PLOOP_IOC_START == 0x5003, "START");
_Static_assert(sizeof(struct ploop_truncate_ctl) == 16, "ploop_truncate_ctl");
_Static_assert(sizeof(struct ploop_reloc_map) == 8, "ploop_reloc_map");
_Static_assert(sizeof(struct ploop_index_update_ctl) == 8, "ploop_index_update_ctl");
_Static_assert(PLOOP_IOC_SNAPSHOT == 0x40185004, "SNAPSHOT");
_Static_assert(PLOOP_IOC_DEL_DELTA == 0x40045005, "DEL_DELTA");
_Static_assert(PLOOP_IOC_MERGE == 0x500c, "MERGE");
_Static_assert(PLOOP_IOC_REPLACE_DELTA == 0x4018500d, "REPLACE_DELTA");
_Static_assert(PLOOP_IOC_TRUNCATE == 0x4010500e, "TRUNCATE");
_Static_assert(PLOOP_IOC_UPDATE_INDEX == 0x40085010, "UPDATE_INDEX");
_Static_assert(PLOOP_IOC_GROW == 0x40185011, "GROW");
_Static_assert(sizeof(struct ploop_balloon_ctl) == 16, "ploop_balloon_ctl");
_Static_assert(sizeof(struct ploop_freeblks_extent) == 16, "ploop_freeblks_extent");
_Static_assert(sizeof(struct ploop_freeblks_ctl) == 16, "ploop_freeblks_ctl");
_Static_assert(sizeof(struct ploop_relocblks_extent) == 16, "ploop_relocblks_extent");
_Static_assert(sizeof(struct ploop_relocblks_ctl) == 16, "ploop_relocblks_ctl");
_Static_assert(PLOOP_IOC_FBGET == 0x40105012, "FBGET");
_Static_assert(PLOOP_IOC_BALLOON == 0x40105013, "BALLOON");
_Static_assert(PLOOP_IOC_FREEBLKS == 0x40105014, "FREEBLKS");
_Static_assert(PLOOP_IOC_RELOCBLKS == 0x40105015, "RELOCBLKS");
_Static_assert(PLOOP_IOC_DISCARD_INIT == 0x5017, "DISCARD_INIT");
_Static_assert(PLOOP_IOC_DISCARD_FINI == 0x5018, "DISCARD_FINI");
_Static_assert(PLOOP_IOC_DISCARD_WAIT == 0x5019, "DISCARD_WAIT");
_Static_assert(PLOOP_IOC_FBDROP == 0x501a, "FBDROP");
_Static_assert(sizeof(struct ploop_track_extent) == 16, "ploop_track_extent");
_Static_assert(PLOOP_IOC_TRACK_INIT == 0x80105006, "TRACK_INIT");
_Static_assert(PLOOP_IOC_TRACK_STOP == 0x5007, "TRACK_STOP");
_Static_assert(PLOOP_IOC_TRACK_ABORT == 0x5008, "TRACK_ABORT");
_Static_assert(PLOOP_IOC_TRACK_SETPOS == 0x40085009, "TRACK_SETPOS");
_Static_assert(PLOOP_IOC_TRACK_READ == 0x8010500a, "TRACK_READ");
_Static_assert(PLOOP_IOC_FREEZE == 0x5020, "FREEZE");
_Static_assert(PLOOP_IOC_THAW == 0x5021, "THAW");
_Static_assert(PLOOP_IOC_SYNC == 0x500b, "SYNC");
_Static_assert(PLOOP_IOC_GETDEVICE == 0x40085016, "GETDEVICE");
_Static_assert(PLOOP_IOC_MAX_DELTA_SIZE == 0x4008501c, "MAX_DELTA_SIZE");
#endif

#endif /* _UAPI_LINUX_PLOOP_H */
