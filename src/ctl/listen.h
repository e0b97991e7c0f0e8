/* ctl/listen - a local TCP listener. */
#pragma once
#include "base/error.h"

/* *port 0: any; it is set to the one in use. The listener does not block. */
MUST_CHECK bool listen_local(const char *address, unsigned *port, int *ret_fd, struct error *err);
