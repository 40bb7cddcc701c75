/*
 * Intrusive doubly linked lists. A head is a struct list that is in no object; an object that is
 * on a list has a struct list as a member.
 *
 * Runs in: every process. Trusts: nothing; lists are never in shared memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

#define LIST_INIT(head)                                                                            \
	{                                                                                          \
		&(head), &(head)                                                                   \
	}

/* An empty head, or a member that is on no list. */
static inline void list_init(struct list *head)
{
	head->prev = head->next = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

/* Put link at the end of the list. It may not be on one. */
static inline void list_append(struct list *head, struct list *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

/* Put link at the start of the list. It may not be on one. */
static inline void list_prepend(struct list *head, struct list *link)
{
	list_append(head->next, link);
}

/* Take link off its list, if it is on one; it is initialised afterwards. */
static inline void list_remove(struct list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	list_init(link);
}

/* The object of this type whose member is link. */
#define list_item(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* The first object, or NULL of an empty list. */
#define list_first(head, type, member)                                                             \
	(list_empty(head) ? NULL : list_item((head)->next, type, member))

#define LIST_JOIN_(a, b) a##b
#define LIST_NAME_(a, b) LIST_JOIN_(a, b)
/* NOLINTBEGIN(bugprone-macro-parentheses): names of variables and members stand alone */
#define LIST_FOR_EACH_(item, head, member, link, next_link)                                        \
	for (struct list *link = (head)->next, *next_link = link->next;                            \
	     link != (head) && ((item) = list_item(link, __typeof__(*(item)), member), true);      \
	     link = next_link, next_link = link->next)
/* NOLINTEND(bugprone-macro-parentheses) */

/* For each object, first to last. The body may remove and free the object, but no other one. */
#define list_for_each(item, head, member)                                                          \
	LIST_FOR_EACH_(item, head, member, LIST_NAME_(list_link_, __LINE__),                       \
		       LIST_NAME_(list_next_, __LINE__))
