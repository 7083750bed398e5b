/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef PLOOP_PIN_H
#define PLOOP_PIN_H

#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include "compat.h"

struct file;
struct ploop_delta;
struct task_struct;

/**
 * struct ploop_lease - who owns a lease of the host
 * @pin: whose it is
 * @taken: there is one
 */
struct ploop_lease {
	struct ploop_pin *pin;
	bool taken;
};

/**
 * struct ploop_pin - what keeps others from moving blocks of a file
 * @delta: whose file [const]
 * @file: the opening it was done with [stable->mutex]
 * @denied: nobody else may open the file for writing [stable->mutex]
 * @lease: who opens the file for writing asks us first [stable->mutex]
 * @layout: who moves blocks otherwise does [stable->mutex]
 * @lock: protects @changers; inner to the host's lock of its leases
 * @changers: tasks that change the file for us
 */
struct ploop_pin {
	struct ploop_delta *delta;
	struct file *file;
	bool denied;
	struct ploop_lease lease;
	struct ploop_lease layout;
	spinlock_t lock;
	struct list_head changers;
};

/**
 * struct ploop_changer - a task that changes a file for us
 * @list: ploop_pin.changers
 * @task: the task
 */
struct ploop_changer {
	struct list_head list;
	struct task_struct *task;
};

int ploop_pin_init(struct ploop_delta *delta);
void ploop_pin_exit(struct ploop_delta *delta);
void ploop_pin_begin_change(struct ploop_delta *delta, struct ploop_changer *c);
void ploop_pin_end_change(struct ploop_delta *delta, struct ploop_changer *c);
void ploop_pin_check(struct ploop_delta *delta);
const char *ploop_pin_hold(struct ploop_delta *delta);
void ploop_pin_release(struct ploop_delta *delta);
bool ploop_pin_locate(struct ploop_delta *delta, loff_t pos, sector_t *sector);

#endif /* PLOOP_PIN_H */
