// SPDX-License-Identifier: GPL-2.0-only
#include "commands.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "json.h"
#include "node.h"
#include "report.h"
#include "sysfs.h"

const char ploop_stat_usage[] =
	"Usage: ploop stat [-d] DEV [--json]\n"
	"\n"
	"Shows the state (pstate) and the counters (pstat) of a device, one per line.\n"
	"\n"
	"  --json   print JSON\n"
	"  -h       show this help\n";

#define DECIMAL		10

static struct json_object *values_json(const struct ploop_values *values)
{
	struct json_object *object = json_object_new_object();

	for (size_t i = 0; i < values->n; i++) {
		const struct ploop_value *value = &values->value[i];
		unsigned long long number;
		char *end;

		number = strtoull(value->text, &end, DECIMAL);
		if (isdigit((unsigned char)value->text[0]) && !*end)
			ploop_json_add_number(object, value->name, number);
		else
			ploop_json_add_string(object, value->name, value->text);
	}
	return object;
}

static void print_values(const struct ploop_values *values)
{
	for (size_t i = 0; i < values->n; i++)
		printf("%s: %s\n", values->value[i].name, values->value[i].text);
}

static int print_json(int index, const struct ploop_values *state,
		      const struct ploop_values *counters)
{
	struct json_object *object = json_object_new_object();
	char node[PLOOP_NODE_PATH];

	snprintf(node, sizeof(node), "/dev/ploop%d", index);
	ploop_json_add_string(object, "device", node);
	json_object_object_add(object, "state", values_json(state));
	json_object_object_add(object, "counters", values_json(counters));
	return ploop_json_print(object);
}

static int show(int index, bool json)
{
	struct ploop_values state, counters;
	int rc;

	rc = ploop_sysfs_values(index, "pstate", &state);
	if (rc)
		return rc;
	rc = ploop_sysfs_values(index, "pstat", &counters);
	if (rc)
		goto out_free_state;
	if (json) {
		rc = print_json(index, &state, &counters);
	} else {
		print_values(&state);
		print_values(&counters);
	}
	ploop_sysfs_free_values(&counters);
out_free_state:
	ploop_sysfs_free_values(&state);
	return rc;
}

/**
 * ploop_cmd_stat() - ploop stat
 * @argc: number of arguments
 * @argv: the arguments
 *
 * Return: an exit code, PLOOP_SHOW_USAGE or PLOOP_SHOW_HELP.
 */
int ploop_cmd_stat(int argc, char *argv[])
{
	const char *dev;
	bool json;
	int index, rc;

	rc = ploop_json_parse_args(argc, argv, &json, &dev);
	if (rc)
		return rc;
	if (!!dev + (argc - optind) != 1)
		return PLOOP_SHOW_USAGE;
	rc = ploop_node_parse(dev ? dev : argv[optind], &index);
	return rc ? rc : show(index, json);
}
