/* What is read as an address or a network is written canonically, and read back as the same; a network holds its own base. */
#include "core/base/error.h"
#include "core/base/netaddr.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct span written(const struct netaddr *address, bool with_port, uint8_t *room, size_t size) {
  struct fmt out = fmt_over(room, size);
  if (with_port) {
    netaddr_format_with_port(address, &out);
  } else {
    netaddr_format(address, &out);
  }
  must(!out.overflow);
  return fmt_span(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
  struct span text = span_of(bytes, len);
  uint8_t room[56];
  struct netaddr address, again;
  struct network network;
  if (netaddr_parse(&address, text) == E_OK) {
    must(netaddr_parse(&again, written(&address, false, room, 45)) == E_OK && netaddr_equal(&address, &again));
    must(network_parse(&network, text) == E_OK && network_contains(&network, &address));
  }
  if (netaddr_parse_with_port(&address, text, 25) == E_OK)
    must(netaddr_parse_with_port(&again, written(&address, true, room, sizeof room), 1) == E_OK && netaddr_equal(&address, &again));
  if (network_parse(&network, text) == E_OK) {
    bool mapped_and_wide = network.base.family == 6 && network.prefix_bits < 96;
    must(mapped_and_wide || network_contains(&network, &network.base));
  }
  return 0;
}
