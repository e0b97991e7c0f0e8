#include "http/server_conn.h"
void h2_start(struct server_conn *sc, struct str first) { (void)first; conn_close(sc->conn); }
