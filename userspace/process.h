/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Other programs, started without a shell.
 */
#ifndef PLOOP_PROCESS_H
#define PLOOP_PROCESS_H

#include <sys/types.h>

int ploop_process_run(char *const argv[], int *status);
int ploop_process_wait(pid_t pid, int *status);
void ploop_process_set_path(void);

#endif /* PLOOP_PROCESS_H */
