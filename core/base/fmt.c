#include "core/base/fmt.h"

static const char hex_digits[] = "0123456789abcdef";

void fmt_u64(struct fmt *f, uint64_t value) { fmt_u64_padded(f, value, 1); }

void fmt_u64_padded(struct fmt *f, uint64_t value, unsigned digits) {
  uint8_t room[20];
  unsigned at = sizeof room;
  do {
    room[--at] = (uint8_t)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  while (at > 0 && sizeof room - at < digits) room[--at] = '0';
  fmt_bytes(f, room + at, sizeof room - at);
}

void fmt_hex64(struct fmt *f, uint64_t value) {
  uint8_t room[16];
  for (int i = 15; i >= 0; i--, value >>= 4) room[i] = (uint8_t)hex_digits[value & 15];
  fmt_bytes(f, room, sizeof room);
}

void fmt_escaped(struct fmt *f, struct span s) {
  for (size_t i = 0; i < s.len; i++) {
    uint8_t c = s.at[i];
    if (c >= 0x20 && c < 0x7f && c != '\\' && c != '"') {
      fmt_char(f, (char)c);
    } else {
      char escape[4] = {'\\', 'x', hex_digits[c >> 4], hex_digits[c & 15]};
      fmt_bytes(f, escape, sizeof escape);
    }
  }
}

/* Days since 1970-01-01 to a civil date: the era arithmetic of the proleptic Gregorian calendar, valid for all of uint32. */
static void civil_from_days(uint64_t days, unsigned *year, unsigned *month, unsigned *day) {
  uint64_t shifted = days + 719468;
  uint64_t era = shifted / 146097;
  unsigned day_of_era = (unsigned)(shifted - era * 146097);
  unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  unsigned shifted_month = (5 * day_of_year + 2) / 153;
  *day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
  *month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  *year = (unsigned)(year_of_era + era * 400 + (*month <= 2));
}

static void put_clock(struct fmt *f, uint64_t seconds) {
  fmt_u64_padded(f, seconds / 3600 % 24, 2);
  fmt_char(f, ':');
  fmt_u64_padded(f, seconds / 60 % 60, 2);
  fmt_char(f, ':');
  fmt_u64_padded(f, seconds % 60, 2);
}

void fmt_date(struct fmt *f, uint64_t wall_ms) {
  static const char days[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
  static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  uint64_t seconds = wall_ms / 1000;
  unsigned year, month, day;
  civil_from_days(seconds / 86400, &year, &month, &day);
  fmt_text(f, days[seconds / 86400 % 7]);
  fmt_text(f, ", ");
  fmt_u64(f, day);
  fmt_char(f, ' ');
  fmt_text(f, months[month - 1]);
  fmt_char(f, ' ');
  fmt_u64(f, year);
  fmt_char(f, ' ');
  put_clock(f, seconds);
  fmt_text(f, " +0000");
}

void fmt_timestamp(struct fmt *f, uint64_t wall_ms) {
  uint64_t seconds = wall_ms / 1000;
  unsigned year, month, day;
  civil_from_days(seconds / 86400, &year, &month, &day);
  fmt_u64_padded(f, year, 4);
  fmt_char(f, '-');
  fmt_u64_padded(f, month, 2);
  fmt_char(f, '-');
  fmt_u64_padded(f, day, 2);
  fmt_char(f, 'T');
  put_clock(f, seconds);
  fmt_char(f, 'Z');
}
