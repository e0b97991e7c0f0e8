/* cel/lex - the words of expressions, between lex.c that reads and parse.c that takes them. */
#pragma once
#include "cel/internal.h"

enum token {
    T_END,
    T_IDENT,
    T_INT,
    T_UINT,
    T_FLOAT,
    T_STRING,
    T_BYTES,
    T_OP, /* one or two characters, in `text` */
    T_BAD,
};

struct cel_lexer {
    struct arena *a;
    struct str in;
    size_t at;
    enum token token;
    struct str text; /* of the token */
    size_t start;
    struct cel_value literal;
    int depth;
    bool failed;
    struct cel_issues issues;
};

void cel_lex(struct cel_lexer *p); /* the next token; p->failed: it is none */
