/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The commands. Each has a file cmd_NAME.c with its function and usage, and a
 * line in the table of ploop.c.
 */
#ifndef PLOOP_COMMANDS_H
#define PLOOP_COMMANDS_H

/** PLOOP_SHOW_USAGE: a command was called wrongly: usage on stderr */
#define PLOOP_SHOW_USAGE	(-1)
/** PLOOP_SHOW_HELP: -h: usage on stdout */
#define PLOOP_SHOW_HELP		(-2)

/**
 * struct ploop_command - a command
 * @name: the word after ploop
 * @fn: does it; argv[0] is the name; returns an exit code, PLOOP_SHOW_USAGE or
 *      PLOOP_SHOW_HELP
 * @summary: one line for the list of commands
 * @usage: synopsis and options
 */
struct ploop_command {
	const char *name;
	int (*fn)(int argc, char *argv[]);
	const char *summary;
	const char *usage;
};

int ploop_cmd_init(int argc, char *argv[]);
int ploop_cmd_mount(int argc, char *argv[]);
int ploop_cmd_umount(int argc, char *argv[]);
int ploop_cmd_list(int argc, char *argv[]);
int ploop_cmd_info(int argc, char *argv[]);
int ploop_cmd_stat(int argc, char *argv[]);
int ploop_cmd_check(int argc, char *argv[]);
int ploop_cmd_snapshot(int argc, char *argv[]);
int ploop_cmd_merge(int argc, char *argv[]);
int ploop_cmd_grow(int argc, char *argv[]);
int ploop_cmd_balloon(int argc, char *argv[]);
int ploop_cmd_discard(int argc, char *argv[]);
int ploop_cmd_copy(int argc, char *argv[]);

extern const char ploop_init_usage[];
extern const char ploop_mount_usage[];
extern const char ploop_umount_usage[];
extern const char ploop_list_usage[];
extern const char ploop_info_usage[];
extern const char ploop_stat_usage[];
extern const char ploop_check_usage[];
extern const char ploop_snapshot_usage[];
extern const char ploop_merge_usage[];
extern const char ploop_grow_usage[];
extern const char ploop_balloon_usage[];
extern const char ploop_discard_usage[];
extern const char ploop_copy_usage[];

#endif /* PLOOP_COMMANDS_H */
