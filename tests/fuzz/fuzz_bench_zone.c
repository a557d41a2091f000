/* Any query gets a response that carries its id, keeps within its limits and is read by ldns; or none. */
#include <ldns/ldns.h>

#include "bench/lib/zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  if (len < 1) return 0;
  bool udp = (bytes[0] & 1) != 0;
  struct zone zone = {.count = 100, .sites = bytes[0] >> 6, .mx_hosts = 1 + (bytes[0] >> 2 & 15), .host_base = 0x7f000101, .host_count = 254};
  zone.truncate = (bytes[0] & 2) != 0;
  must(domains_parse(&zone.domains, SPAN("d%05d.test")) == 0);
  uint8_t response[ZONE_RESPONSE_MAX];
  struct fmt out = fmt_over(response, sizeof response);
  struct span query = span_of(bytes + 1, len - 1);
  if (!zone_answer(&zone, query, udp, &out)) return 0;
  must(query.len >= 12 && out.len >= 12);
  must(memcmp(query.at, response, 2) == 0);
  must(!udp || out.len <= ZONE_UDP_MAX);
  ldns_pkt *packet;
  must(ldns_wire2pkt(&packet, response, out.len) == LDNS_STATUS_OK);
  must(ldns_pkt_qr(packet));
  ldns_pkt_free(packet);
  return 0;
}
