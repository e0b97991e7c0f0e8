/* apiserver/list_items - the items of a list: judged by selectors in turns, written as their reader takes them. */
#pragma once
#include "apiserver/internal.h"

/* Answers over HTTP in JSON, in the form that was asked for; frees the request. */
void answer_list_items(struct request *r, const struct json *meta, struct store_list *take_list);
bool list_match(struct request *r, const struct selection *sel, const struct store_object *o,
                struct arena *a);
/* Leaves what the selector matches, at most `limit` (0: all) objects, and then calls done: at once when there is little to
 * look at, else some turns later. The list is done's to take from, and freed behind it. */
void list_scan(struct request *r, const struct selection *sel, size_t limit,
               struct store_list *take_list,
               void (*done)(struct request *r, struct store_list *list));
