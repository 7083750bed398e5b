/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * JSON output.
 */
#ifndef PLOOP_JSON_H
#define PLOOP_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

#include "mounts.h"
#include "sysfs.h"

int ploop_json_parse_args(int argc, char *argv[], bool *json, const char **dev);

void ploop_json_add_string(struct json_object *object, const char *key, const char *value);
void ploop_json_add_number(struct json_object *object, const char *key, uint64_t value);
void ploop_json_add_bool(struct json_object *object, const char *key, bool value);
struct json_object *ploop_json_device(const struct ploop_info *info,
				      const struct ploop_mount_list *mounts);
int ploop_json_print(struct json_object *object);

#endif /* PLOOP_JSON_H */
