// SPDX-License-Identifier: GPL-2.0-only
/*
 * ploop: block devices over image files.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "process.h"
#include "report.h"

#ifndef PLOOP_VERSION
#define PLOOP_VERSION	"unknown"
#endif

static const struct ploop_command commands[] = {
	{ "init", ploop_cmd_init, "make a new image", ploop_init_usage },
	{ "mount", ploop_cmd_mount, "attach images to a device", ploop_mount_usage },
	{ "umount", ploop_cmd_umount, "detach the images of a device", ploop_umount_usage },
	{ "snapshot", ploop_cmd_snapshot, "put a new image on top of a running device",
	  ploop_snapshot_usage },
	{ "merge", ploop_cmd_merge, "put the data of upper images into a lower one",
	  ploop_merge_usage },
	{ "grow", ploop_cmd_grow, "make the disk larger", ploop_grow_usage },
	{ "balloon", ploop_cmd_balloon, "take space from a filesystem and give it to the host",
	  ploop_balloon_usage },
	{ "discard", ploop_cmd_discard, "give the free space of a filesystem to the host",
	  ploop_discard_usage },
	{ "copy", ploop_cmd_copy, "copy the image on top of a running device", ploop_copy_usage },
	{ "list", ploop_cmd_list, "list attached devices", ploop_list_usage },
	{ "info", ploop_cmd_info, "describe an image or a device", ploop_info_usage },
	{ "stat", ploop_cmd_stat, "show state and counters of a device", ploop_stat_usage },
	{ "check", ploop_cmd_check, "check images, and repair them",
	  ploop_check_usage },
};

#define N_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *out)
{
	fputs("Usage: ploop COMMAND [ARGUMENTS]\n\nCommands:\n", out);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
	fputs("\nploop COMMAND -h explains a command, ploop --version shows the version.\n", out);
}

static int run_command(const struct ploop_command *command, int argc, char *argv[])
{
	int rc;

	if (argc == 2 && !strcmp(argv[1], "--help"))
		rc = PLOOP_SHOW_HELP;
	else
		rc = command->fn(argc, argv);
	if (rc == PLOOP_SHOW_HELP) {
		fputs(command->usage, stdout);
		return PLOOP_EXIT_OK;
	}
	if (rc == PLOOP_SHOW_USAGE) {
		fputs(command->usage, stderr);
		return PLOOP_EXIT_PARAM;
	}
	return rc;
}

/**
 * main() - find the command and run it
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code of enum ploop_exit.
 */
int main(int argc, char *argv[])
{
	ploop_process_set_path();
	if (argc < 2) {
		print_usage(stderr);
		return PLOOP_EXIT_PARAM;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("ploop " PLOOP_VERSION);
		return PLOOP_EXIT_OK;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
		print_usage(stdout);
		return PLOOP_EXIT_OK;
	}
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(argv[1], commands[i].name))
			return run_command(&commands[i], argc - 1, argv + 1);
	ploop_fail(PLOOP_EXIT_PARAM, "unknown command %s", argv[1]);
	print_usage(stderr);
	return PLOOP_EXIT_PARAM;
}
