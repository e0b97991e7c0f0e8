/* base/limits - every bound on what input may make us allocate, in one place. */
#pragma once

#define LIMIT_BUF_DEFAULT (64u << 20)
#define LIMIT_HTTP_HEADERS (64u << 10)
#define LIMIT_HTTP_BODY (3u << 20)      /* as kube-apiserver's request limit */
#define LIMIT_HTTP_BODIES (64u << 20)   /* request bodies buffered at once, by all connections */
#define LIMIT_OBJECT_BYTES (1536u << 10) /* as etcd's request limit */
#define LIMIT_JSON_DEPTH 256
#define LIMIT_JSON_NODES (1u << 20)
#define LIMIT_YAML_ALIAS_NODES 100000
#define LIMIT_PATCH_OPS 10000
#define LIMIT_WATCH_BACKLOG (4u << 20)  /* bytes queued to one watcher before it is closed */
#define LIMIT_LIST_PINNED (16u << 20)   /* bytes of past states of objects that lists on their way hold */
#define LIMIT_H2_STREAMS 250
#define LIMIT_WS_FRAME (1u << 20)
#define LIMIT_QMP_LINE (16u << 20)
#define LIMIT_REST_HEADERS (16u << 10)  /* of an answer of a VMM's REST API, chunk lines and trailers with them */
#define LIMIT_REST_BODY (4u << 20)
#define LIMIT_PROTO_MESSAGE (1u << 20)  /* agent ↔ launcher */
#define LIMIT_LOG_FILE (16u << 20)
#define LIMIT_CEL_TEXT (64u << 10)      /* one expression */
#define LIMIT_CEL_DEPTH 250
#define LIMIT_CEL_MEMORY (16u << 20)    /* what one evaluation may allocate */
