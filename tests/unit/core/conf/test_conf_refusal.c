/* What is wrong in a configuration, and in which words it is said. */
#include "tests/unit/core/conf/reading.c"

/* Text and the whole line it gives. */
static const struct refusal {
  const char *text;
  int error;
  const char *why;
} refusals[] = {
    /* what is missing */
    {"", E_SYNTAX, "c.yaml:1: listeners: is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]"},
    {"# nothing\n", E_SYNTAX, "c.yaml:1: listeners: is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]"},
    {"{}", E_SYNTAX, "c.yaml:1: listeners: is missing; at least one is needed, like [{address: \"0.0.0.0\", port: 25}]"},
    {"routes: [{hosts: [127.0.0.1]}]\n" LISTENERS, E_SYNTAX, "c.yaml:1: routes[0]: has no domain; it needs one (like example.org, or \"*\" for all)"},
    {LISTENERS "routes:\n - domain: a.b\n", E_SYNTAX,
     "c.yaml:3: routes[0]: has no hosts; it needs a list of addresses (like hosts: [\"192.0.2.1:25\"])"},
    /* keys */
    {"hostnam: x\n", E_SYNTAX, "c.yaml:1: hostnam: unknown key; known here are: " ROOT_KEYS},
    {LISTENERS "spool:\n  path: /x\n  size: 1\n", E_SYNTAX,
     "c.yaml:4: spool.size: unknown key; known here are: path, durability, segment_size, max_size, min_free"},
    {"listeners:\n - port: 25\n - port: 26\n   prot: 1\n", E_SYNTAX, "c.yaml:4: listeners[1].prot: unknown key; known here are: " LISTENER_KEYS},
    {LISTENERS "delivery:\n  timeouts:\n    final: 10m\n    finale: 10m\n", E_SYNTAX,
     "c.yaml:5: delivery.timeouts.finale: unknown key; known here are: connect, greeting, command, data, final"},
    {LISTENERS "Hostname: x\n", E_SYNTAX, "c.yaml:2: Hostname: unknown key; known here are: " ROOT_KEYS},
    {LISTENERS "a_key_that_is_longer_than_any_there_is_of_ours: 1\n", E_SYNTAX,
     "c.yaml:2: unknown key 'a_key_that_is_longer_than_any_there_is_of_ours'"},
    {LISTENERS "\"\": 1\n", E_SYNTAX, "c.yaml:2: unknown key ''"},
    {LISTENERS "\"x\\ny\": 1\n", E_SYNTAX, "c.yaml:2: unknown key 'x\\x0ay'"},
    {LISTENERS "a.b: 1\n", E_SYNTAX, "c.yaml:2: unknown key 'a.b'"},
    {LISTENERS "hostname: a.b\nshards: 1\nhostname: a.b\n", E_SYNTAX, "c.yaml:4: the key 'hostname' is here a second time; give it once"},
    {"listeners:\n - port: 1\n   port: 1\n", E_SYNTAX, "c.yaml:3: listeners[0]: the key 'port' is here a second time; give it once"},
    {LISTENERS "? [a]\n: b\n", E_SYNTAX, "c.yaml:2: a key must be one word, not a list or a mapping"},
    {"users: [a]\n" LISTENERS, E_SYNTAX, "c.yaml:1: users: must be one value, not a list or a mapping"},
    {LISTENERS "spool: {tls: a}\n", E_SYNTAX, "c.yaml:2: spool.tls: unknown key; known here are: path, durability, segment_size, max_size, min_free"},
    /* types */
    {"- a\n", E_SYNTAX, "c.yaml:1: must be a mapping with keys of these: " ROOT_KEYS},
    {"just words\n", E_SYNTAX, "c.yaml:1: must be a mapping with keys of these: " ROOT_KEYS},
    {LISTENERS "hostname: [a.b]\n", E_SYNTAX, "c.yaml:2: hostname: must be one value, not a list or a mapping"},
    {LISTENERS "queue:\n  max_age:\n    d: 5\n", E_SYNTAX, "c.yaml:3: queue.max_age: must be one value, not a list or a mapping"},
    {LISTENERS "spool: /var/spool\n", E_SYNTAX,
     "c.yaml:2: spool: must be a mapping with keys of these: path, durability, segment_size, max_size, min_free"},
    {LISTENERS "spool:\n", E_SYNTAX, "c.yaml:2: spool: must be a mapping with keys of these: path, durability, segment_size, max_size, min_free"},
    {"listeners:\nhostname: a.b\n", E_SYNTAX, "c.yaml:1: listeners: must be a list, like [one, two]"},
    {"listeners: {port: 25}\n", E_SYNTAX, "c.yaml:1: listeners: must be a list, like [one, two]"},
    {"listeners: [25]\n", E_SYNTAX, "c.yaml:1: listeners[0]: must be a mapping with keys of these: " LISTENER_KEYS},
    {"listeners: [[25]]\n", E_SYNTAX, "c.yaml:1: listeners[0]: must be a mapping with keys of these: " LISTENER_KEYS},
    {LISTENERS "relay_from:\n - 10.0.0.0/8\n - [a]\n", E_SYNTAX, "c.yaml:4: relay_from[1]: must be one value, not a list or a mapping"},
    {LISTENERS "relay_from: 10.0.0.0/8\n", E_SYNTAX, "c.yaml:2: relay_from: must be a list, like [one, two]"},
    {LISTENERS "routes:\n - domain: a.b\n   hosts: 127.0.0.1\n", E_SYNTAX, "c.yaml:4: routes[0].hosts: must be a list, like [one, two]"},
    /* lists */
    {"listeners: []\n", E_SYNTAX, "c.yaml:1: listeners: the list is empty; it needs one entry at least"},
    {LISTENERS "relay_from: []\n", E_SYNTAX, "c.yaml:2: relay_from: the list is empty; it needs one entry at least, or leave the key out"},
    {LISTENERS "routes:\n - {domain: a.b, hosts: [127.0.0.1]}\n - {domain: a.c, hosts: []}\n", E_SYNTAX,
     "c.yaml:4: routes[1].hosts: the list is empty; it needs one entry at least"},
    {LISTENERS "dns: {servers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4, 1.1.1.5, 1.1.1.6, 1.1.1.7, 1.1.1.8,\n  1.1.1.9]}\n", E_RANGE,
     "c.yaml:2: dns.servers: the list has too many entries"},
    {"listeners:\n - {port: 25}\n - {address: \"::\", port: 25}\n - {address: 0.0.0.0}\n", E_SYNTAX,
     "c.yaml:4: listeners[2]: 0.0.0.0:25 is listed already, as listeners[0]; give each address and port once"},
    /* values */
    {LISTENERS "delivery: {idle: 5 parsecs}\n", E_SYNTAX,
     "c.yaml:2: delivery.idle: '5 parsecs' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 1d"},
    {LISTENERS "delivery: {idle: 60}\n", E_SYNTAX, "c.yaml:2: delivery.idle: '60' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 1d"},
    {LISTENERS "delivery: {idle: 0}\n", E_RANGE, "c.yaml:2: delivery.idle: '0' is out of range; it may be 1ms to 1d"},
    {LISTENERS "delivery: {idle: -5s}\n", E_SYNTAX,
     "c.yaml:2: delivery.idle: '-5s' is no duration (like 300ms, 5s, 10m, 4h, 5d); it may be 1ms to 1d"},
    {LISTENERS "queue: {max_age: 366d}\n", E_RANGE, "c.yaml:2: queue.max_age: '366d' is out of range; it may be 1ms to 365d"},
    {LISTENERS "queue: {max_age: 18446744073709551615d}\n", E_RANGE,
     "c.yaml:2: queue.max_age: '18446744073709551615d' is out of range; it may be 1ms to 365d"},
    {LISTENERS "queue: {max_age: 99999999999999999999999s}\n", E_RANGE,
     "c.yaml:2: queue.max_age: '99999999999999999999999s' is out of range; it may be 1ms to 365d"},
    {LISTENERS "shards: -1\n", E_SYNTAX, "c.yaml:2: shards: '-1' is no whole number; it may be 0 to 256"},
    {LISTENERS "shards: 257\n", E_RANGE, "c.yaml:2: shards: '257' is out of range; it may be 0 to 256"},
    {LISTENERS "shards: 18446744073709551617\n", E_RANGE, "c.yaml:2: shards: '18446744073709551617' is out of range; it may be 0 to 256"},
    {LISTENERS "shards: 2.0\n", E_SYNTAX, "c.yaml:2: shards: '2.0' is no whole number; it may be 0 to 256"},
    {LISTENERS "shards: 0x2\n", E_SYNTAX, "c.yaml:2: shards: '0x2' is no whole number; it may be 0 to 256"},
    {LISTENERS "shards:\n", E_SYNTAX, "c.yaml:2: shards: '' is no whole number; it may be 0 to 256"},
    {LISTENERS "limits: {message_size: 50MB}\n", E_SYNTAX,
     "c.yaml:2: limits.message_size: '50MB' is no size (like 512, 64KiB, 50MiB, 1GiB); it may be 1KiB to 1GiB"},
    {LISTENERS "limits: {message_size: 2GiB}\n", E_RANGE, "c.yaml:2: limits.message_size: '2GiB' is out of range; it may be 1KiB to 1GiB"},
    {LISTENERS "shards: 3\nlimits: {memory: 11MiB}\n", E_RANGE, "c.yaml:3: limits.memory: 11MiB is less than 4MiB for each of the 3 shards"},
    {LISTENERS "limits: {memory: 99999999TiB}\n", E_RANGE, "c.yaml:2: limits.memory: '99999999TiB' is out of range; it may be 1MiB to 16TiB"},
    {LISTENERS "limits: {recipients: 65536}\n", E_RANGE, "c.yaml:2: limits.recipients: '65536' is out of range; it may be 1 to 65535"},
    {LISTENERS "spool: {segment_size: 1023KiB}\n", E_RANGE, "c.yaml:2: spool.segment_size: '1023KiB' is out of range; it may be 8MiB to 1GiB"},
    {LISTENERS "dns: {dnssec: perhaps}\n", E_SYNTAX, "c.yaml:2: dns.dnssec: 'perhaps' is neither true nor false"},
    {LISTENERS "delivery: {mta_sts: maybe}\n", E_SYNTAX, "c.yaml:2: delivery.mta_sts: 'maybe' is neither true nor false"},
    {LISTENERS "delivery: {mta_sts_server: there}\n", E_SYNTAX,
     "c.yaml:2: delivery.mta_sts_server: 'there' is no IP address with or without a port (like \"192.0.2.1:443\" or \"[2001:db8::1]:443\")"},
    {LISTENERS "dns: {dnssec: no, servers: [127.0.0.1]}\ndelivery:\n  dane: true\n", E_RANGE,
     "c.yaml:4: delivery.dane: needs dns.dnssec, which is no; with a resolver that validates, and that nobody can stand before, say dns.dnssec: "
     "true"},
    {LISTENERS "dns: {servers: [192.0.2.1]}\ndelivery: {dane: true}\n", E_RANGE,
     "c.yaml:3: delivery.dane: needs dns.dnssec, which is false as not all dns.servers are on this machine; with a resolver that validates, and that "
     "nobody can stand before, say dns.dnssec: true"},
    {LISTENERS "dns: {dnssec: true}\ndelivery: {tls: none, dane: true}\n", E_RANGE,
     "c.yaml:3: delivery.dane: has no meaning with delivery.tls: none"},
    {LISTENERS "delivery: {tls: none, mta_sts: true}\n", E_RANGE, "c.yaml:2: delivery.mta_sts: has no meaning with delivery.tls: none"},
    {LISTENERS "dns: {ipv6: maybe}\n", E_SYNTAX, "c.yaml:2: dns.ipv6: 'maybe' is neither true nor false"},
    {LISTENERS "spool: {durability: always}\n", E_SYNTAX, "c.yaml:2: spool.durability: 'always' must be sync, lazy or memory"},
    {LISTENERS "spool: {path: \"\"}\n", E_SYNTAX, "c.yaml:2: spool.path: is empty; it must name a file or a directory"},
    {LISTENERS "events:\n  path:\n", E_SYNTAX, "c.yaml:3: events.path: is empty; it must name a file or a directory"},
    {LISTENERS "queue: {retry_factor: 0.5}\n", E_RANGE, "c.yaml:2: queue.retry_factor: '0.5' is out of range; it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: 1e1}\n", E_SYNTAX, "c.yaml:2: queue.retry_factor: '1e1' is no factor (like 2 or 1.5); it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: nan}\n", E_SYNTAX, "c.yaml:2: queue.retry_factor: 'nan' is no factor (like 2 or 1.5); it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: 100.5}\n", E_RANGE, "c.yaml:2: queue.retry_factor: '100.5' is out of range; it may be 1 to 100"},
    {LISTENERS "queue: {retry_factor: \"2.\"}\n", E_SYNTAX, "c.yaml:2: queue.retry_factor: '2.' is no factor (like 2 or 1.5); it may be 1 to 100"},
    {LISTENERS "hostname: \"relay example\"\n", E_SYNTAX, "c.yaml:2: hostname: 'relay example' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: a..b\n", E_SYNTAX, "c.yaml:2: hostname: 'a..b' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: a.b.\n", E_SYNTAX, "c.yaml:2: hostname: 'a.b.' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: -a.b\n", E_SYNTAX, "c.yaml:2: hostname: '-a.b' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: a-.b\n", E_SYNTAX, "c.yaml:2: hostname: 'a-.b' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: 192.0.2.1\n", E_SYNTAX, "c.yaml:2: hostname: '192.0.2.1' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: \"a\\r\\nb\"\n", E_SYNTAX, "c.yaml:2: hostname: 'a\\x0d\\x0ab' is no host name (like relay.example.net)"},
    {LISTENERS "hostname: b\xc3\xbc"
               "cher.example\n",
     E_SYNTAX, "c.yaml:2: hostname: 'b\\xc3\\xbccher.example' is no host name (like relay.example.net)"},
    /* addresses and networks */
    {"listeners:\n  - address: localhost\n", E_SYNTAX,
     "c.yaml:2: listeners[0].address: 'localhost' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    {"listeners: [{address: \"127.0.0.1:25\"}]\n", E_SYNTAX,
     "c.yaml:1: listeners[0].address: '127.0.0.1:25' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    {"listeners:\n - address: 127.0.0.1\n   port: 65536\n", E_RANGE, "c.yaml:3: listeners[0].port: '65536' is out of range; it may be 0 to 65535"},
    {"listeners: [{port: smtp}]\n", E_SYNTAX, "c.yaml:1: listeners[0].port: 'smtp' is no whole number; it may be 0 to 65535"},
    {LISTENERS "delivery: {port: 0}\n", E_RANGE, "c.yaml:2: delivery.port: '0' is out of range; it may be 1 to 65535"},
    {LISTENERS "http: {port: 99999}\n", E_RANGE, "c.yaml:2: http.port: '99999' is out of range; it may be 0 to 65535"},
    {LISTENERS "http: {address: localhost}\n", E_SYNTAX, "c.yaml:2: http.address: 'localhost' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    {LISTENERS "relay_from: [10.0.0.0/8, 10.0.0.0/33]\n", E_RANGE,
     "c.yaml:2: relay_from[1]: '10.0.0.0/33' has a prefix that is too long, or bits set behind its prefix (10.0.0.0/8 is right, 10.0.0.1/8 is not)"},
    {LISTENERS "relay_from:\n - 10.0.0.1/8\n", E_RANGE,
     "c.yaml:3: relay_from[0]: '10.0.0.1/8' has a prefix that is too long, or bits set behind its prefix (10.0.0.0/8 is right, 10.0.0.1/8 is not)"},
    {LISTENERS "relay_from: [any]\n", E_SYNTAX, "c.yaml:2: relay_from[0]: 'any' is no network (like 10.0.0.0/8, 192.0.2.1 or \"2001:db8::/32\")"},
    {LISTENERS "dns: {servers: [\"127.0.0.1:0\"]}\n", E_RANGE,
     "c.yaml:2: dns.servers[0]: the port of '127.0.0.1:0' is out of range; it may be 1 to 65535"},
    {LISTENERS "dns:\n  servers:\n    - 127.0.0.1\n    - ns.example\n", E_SYNTAX,
     "c.yaml:5: dns.servers[1]: 'ns.example' is no IP address with or without a port (like \"192.0.2.1:53\" or \"[2001:db8::1]:53\")"},
    {LISTENERS "routes: [{domain: a.b, hosts: [\"192.0.2.1:70000\"]}]\n", E_RANGE,
     "c.yaml:2: routes[0].hosts[0]: the port of '192.0.2.1:70000' is out of range; it may be 1 to 65535"},
    {LISTENERS "routes: [{domain: a.b, hosts: [mx.example]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].hosts[0]: 'mx.example' is no IP address with or without a port (like \"192.0.2.1:25\" or \"[2001:db8::1]:25\")"},
    {LISTENERS "routes: [{domain: a_b*, hosts: [127.0.0.1]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].domain: 'a_b*' is no domain (like example.org, xn--bcher-kva.example, or \"*\" for all)"},
    {LISTENERS "routes:\n - {domain: a.b, hosts: [127.0.0.1]}\n - {domain: A.B, hosts: [127.0.0.2]}\n", E_SYNTAX,
     "c.yaml:4: routes[1].domain: 'A.B' has a route already; give all its hosts there"},
    {LISTENERS "delivery: {source: [192.0.2.1, 192.0.2.2]}\n", E_SYNTAX,
     "c.yaml:2: delivery.source[1]: is a second IPv4 address; at most one of each family is possible"},
    {LISTENERS "delivery: {source: [\"192.0.2.1:25\"]}\n", E_SYNTAX,
     "c.yaml:2: delivery.source[0]: '192.0.2.1:25' is no IP address (like 192.0.2.1 or \"2001:db8::1\")"},
    /* what must fit together */
    {LISTENERS "queue:\n  retry_initial: 8h\n", E_RANGE,
     "c.yaml:3: queue.retry_initial: retry_initial (8h) must not be longer than retry_max (default: 4h)"},
    {LISTENERS "queue:\n  retry_max: 1m\n", E_RANGE, "c.yaml:3: queue.retry_max: retry_initial (default: 5m) must not be longer than retry_max (1m)"},
    {LISTENERS "spool: {max_size: 47MiB}\nshards: 2\n", E_RANGE, "c.yaml:2: spool.max_size: 47MiB is less than 24MiB for each of the 2 shards"},
    /* YAML */
    {LISTENERS "hostname: &a a.b\n", E_SYNTAX, "c.yaml:2: hostname: anchors (&) are not used here; write the value out"},
    {LISTENERS "relay_from: &a [10.0.0.0/8]\n", E_SYNTAX, "c.yaml:2: relay_from: anchors (&) are not used here; write the value out"},
    {LISTENERS "routes: [{domain: *, hosts: [a]}]\n", E_SYNTAX,
     "c.yaml:2: this is no YAML: did not find expected alphabetic or numeric character while scanning an alias"},
    {LISTENERS "routes: [{domain: *x , hosts: [a]}]\n", E_SYNTAX,
     "c.yaml:2: routes[0].domain: aliases (*) are not used here; write the value out, and put \"*\" in quotes"},
    {LISTENERS "hostname: !!str a.b\n", E_SYNTAX, "c.yaml:2: hostname: tags (!) are not used here; write the plain value"},
    {LISTENERS "spool: !x {path: a}\n", E_SYNTAX, "c.yaml:2: spool: tags (!) are not used here; write the plain value"},
    {LISTENERS "---\nhostname: a.b\n", E_SYNTAX, "c.yaml:2: a second document begins here; a configuration is one"},
    {LISTENERS "hostname: a: b\n", E_SYNTAX, "c.yaml:2: this is no YAML: mapping values are not allowed in this context"},
    {LISTENERS "spool: {path: /x\n", E_SYNTAX, "c.yaml:3: this is no YAML: did not find expected ',' or '}' while parsing a flow mapping"},
    {LISTENERS "spool:\n\tpath: /x\n", E_SYNTAX, "c.yaml:3: this is no YAML: the line is indented with a tab; use spaces"},
    {LISTENERS "hostname: \"a\\0b\"\n", E_SYNTAX, "c.yaml:2: hostname: has a NUL byte in it, which no value may have"},
    {LISTENERS "hostname: \xff\xfe\n", E_SYNTAX, "c.yaml:2: this is no YAML: invalid leading UTF-8 octet (write UTF-8 text)"},
    {LISTENERS "hostname: \x01\n", E_SYNTAX, "c.yaml:2: this is no YAML: control characters are not allowed (write UTF-8 text)"},
    {"a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", E_SYNTAX, "c.yaml:1: a.b.c.d.e.f.g.h: nested too deeply: 8 levels are the most"},
    {"[[[[[[[[[[]]]]]]]]]]", E_SYNTAX, "c.yaml:1: [0][0][0][0][0][0][0][0]: nested too deeply: 8 levels are the most"},
};

START_TEST(what_is_refused_and_how_it_is_said) {
  const struct refusal *refusal = &refusals[_i];
  struct conf conf;
  ck_assert_int_eq(parse(&conf, span_of_text(refusal->text)), refusal->error);
  ck_assert_str_eq(why_room, refusal->why);
  ck_assert_ptr_null(conf.listeners);
}
END_TEST

START_TEST(nul_bytes) {
  struct conf conf;
  ck_assert_int_eq(parse(&conf, SPAN(LISTENERS "hostname: a.b\n\0shards: 1\n")), E_SYNTAX);
  ck_assert_str_eq(why_room, "c.yaml:3: has a NUL byte in it; write UTF-8 text");
  ck_assert_int_eq(parse(&conf, SPAN("\xff\xfel\0i\0")), E_SYNTAX);
  ck_assert_int_eq(parse(&conf, (struct span){NULL, 0}), E_SYNTAX);
}
END_TEST

/* Each of these would be exponential or quadratic, or overflow a stack, if it were followed. */
START_TEST(hostile_yaml_is_cheap) {
  enum { SIZE = 1 << 20 };
  char *text = malloc(SIZE);
  struct conf conf;
  const char *bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n";
  ck_assert_int_eq(parse(&conf, span_of_text(bomb)), E_SYNTAX);
  static const char fills[] = "[{-?:&*!|>\"'#%";
  for (const char *fill = fills; *fill != '\0'; fill++) {
    memset(text, *fill, SIZE);
    ck_assert_int_eq(parse(&conf, span_of(text, SIZE)), E_SYNTAX);
    for (size_t i = 1; i < SIZE; i += 2) text[i] = '\n';
    ck_assert_int_eq(parse(&conf, span_of(text, SIZE)), E_SYNTAX);
    for (size_t i = 1; i < SIZE; i += 2) text[i] = ' ';
    ck_assert_int_eq(parse(&conf, span_of(text, SIZE)), E_SYNTAX);
  }
  free(text);
}
END_TEST

START_TEST(long_values_and_names_keep_the_line_short) {
  char text[4096], name[1000];
  struct conf conf;
  struct conf_system system = machine();
  snprintf(text, sizeof text, LISTENERS "hostname: %0900d\n", 0);
  ck_assert_int_eq(parse(&conf, span_of_text(text)), E_SYNTAX);
  ck_assert_uint_lt(strlen(why_room), 200);
  ck_assert_ptr_nonnull(strstr(why_room, "0000...' is no host name"));
  snprintf(text, sizeof text, LISTENERS "spool: {path: /%01001d}\n", 0);
  ck_assert_int_eq(parse(&conf, span_of_text(text)), E_RANGE);
  ck_assert_str_eq(why_room, "c.yaml:2: spool.path: is too long: 1000 bytes are the most");
  memset(name, 'n', sizeof name - 1);
  strcpy(name + sizeof name - 8, ".\nyaml");
  struct fmt why = fmt_over(why_room, sizeof why_room - 1);
  ck_assert_int_eq(conf_parse_on(&conf, &system, SPAN("unknown: 1"), name, &why), E_SYNTAX);
  why_room[why.len] = '\0';
  ck_assert_ptr_nonnull(strstr(why_room, "nnn.?yaml:1: unknown: unknown key; known here are: hostname,"));
  ck_assert(!why.overflow);
}
END_TEST

int main(void) {
  TCase *all = tcase_create("all");
  tcase_add_loop_test(all, what_is_refused_and_how_it_is_said, 0, sizeof refusals / sizeof *refusals);
  tcase_add_test(all, nul_bytes);
  tcase_add_test(all, hostile_yaml_is_cheap);
  tcase_add_test(all, long_values_and_names_keep_the_line_short);
  return unit_main("core/conf/conf: refusals", &all, 1);
}
