/* json/yaml_scalar - what a plain YAML scalar means: a word, a number, or just text. */
#pragma once
#include "json/json.h"

/* Null, bool or number by its plain form; else a string (text borrowed or, for numbers, maybe in the arena). */
struct json yaml_plain(struct arena *a, struct str s);
/* Whether other YAML readers (1.1 booleans, time stamps, base 60) or we would take the plain text for more than a string. */
bool yaml_needs_quotes(struct str s);
