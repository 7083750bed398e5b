/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the driver does for a balloon: forget clusters, and make the top image
 * shorter by them.
 */
#ifndef PLOOP_RELOC_H
#define PLOOP_RELOC_H

#include <stdint.h>

#include "extents.h"
#include "maintenance.h"

int ploop_reloc_begin(struct ploop_maintenance_session *session);
int ploop_reloc_end(struct ploop_maintenance_session *session);
int ploop_reloc_find(const struct ploop_maintenance_session *session,
		     const struct ploop_ranges *ranges, struct ploop_extents *extents);
int ploop_reloc_load(struct ploop_maintenance_session *session,
		     const struct ploop_extents *extents);
int ploop_reloc_run(struct ploop_maintenance_session *session, uint32_t *cut);
int ploop_reloc_wait(struct ploop_maintenance_session *session, uint32_t *cut);
int ploop_reloc_end_discard(struct ploop_maintenance_session *session);

#endif /* PLOOP_RELOC_H */
