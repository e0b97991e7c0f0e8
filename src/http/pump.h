/* http/pump - carries bytes between a WebSocket and a connected socket, both ways, until either ends.
 *
 * Each side is paused while the other is full, so a slow reader costs one buffer and no more. */
#pragma once
#include "http/exchange.h"

/* Accepts x as a WebSocket (and answers it if that fails) and pumps. Nobody owns a pump: it goes with its connection. The
 * subprotocol is chosen if the client offers it. take_fd: a stream socket, non-blocking. */
void pump_start(struct exchange *x, const char *subprotocol, int take_fd);
