/* How firmware in C is put under the vectors: openami conformance vectors --adapter ./adapter
 *
 * The adapter is main(): a line in, a line out (docs/conformance.md, "vectors"). What it calls, judge(), is to be
 * replaced by the reader of your own firmware; here stands one on jansson (MIT), whole enough to be judged:
 * everything about a topic and a message, nothing about signed documents, which it declines.
 */
#define _GNU_SOURCE
#include <jansson.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MESSAGE_BYTES_MAX = 65536, DEPTH_MAX = 16, ID_CHARS_MAX = 64, FEEDER_AND_GATEWAY_CHARS_MAX = 63 };
#define WHOLE_MAX 9007199254740991.0 /* 2^53-1: beyond it two readers read two numbers */
#define AHEAD_OF_CLOCK_MAX_S 300

typedef const char *fault; /* why it is refused; NULL: it is not */

/* --- topics ---------------------------------------------------------------------------------- */

enum kind { TELEMETRY, EVENT, COMMAND, SESSION };
struct topic { char level[7][ID_CHARS_MAX + 1]; enum kind kind; };

static bool is_id(const char *text, size_t length) {
    if (length < 1 || length > ID_CHARS_MAX) return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool alnum = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alnum && (i == 0 || !strchr("._-", c) || c == 0)) return false;
    }
    return true;
}

static fault read_topic(const char *text, size_t length, struct topic *topic) {
    size_t levels = 0, at = 0;
    for (;;) { /* each level, to the next slash or the end; every one of ours is an id by its characters */
        const char *slash = memchr(text + at, '/', length - at);
        size_t end = slash ? (size_t)(slash - text) : length;
        if (levels == 7) return "one level too many";
        if (!is_id(text + at, end - at)) return "an empty level, or a character no id has";
        memcpy(topic->level[levels], text + at, end - at);
        topic->level[levels++][end - at] = 0;
        if (!slash) break;
        at = end + 1;
    }
    if (levels < 6 || strcmp(topic->level[0], "openami") || strcmp(topic->level[1], "v1")) return "a foreign topic";
    if (strlen(topic->level[2]) + strlen(topic->level[3]) > FEEDER_AND_GATEWAY_CHARS_MAX)
        return "feeder and gateway are too long together";
    if (levels == 6) {
        topic->kind = SESSION;
        return strcmp(topic->level[4], "session") ? "a foreign topic" : NULL;
    }
    static const char *const leaf[] = {"telemetry", "event", "command"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(topic->level[4], "meter") && !strcmp(topic->level[6], leaf[i])) {
            topic->kind = (enum kind)i;
            return NULL;
        }
    return "a foreign topic";
}

/* --- messages -------------------------------------------------------------------------------- */

static bool matches(const char *pattern, json_t *text) { /* the whole of it: a NUL or a line feed is a character */
    regex_t compiled;
    const char *value = json_string_value(text);
    if (!value || strlen(value) != json_string_length(text)) return false;
    if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB)) abort();
    int differs = regexec(&compiled, value, 0, NULL, 0);
    regfree(&compiled);
    return !differs;
}

static bool read_time(json_t *text, double *seconds) {
    struct tm parts = {0};
    int year, month, day, hour, minute, second, zone_hours = 0, zone_minutes = 0;
    char sign = '+';
    double fraction = 0;
    if (!matches("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$", text))
        return false;
    const char *value = json_string_value(text), *zone = value + 19;
    sscanf(value, "%4d-%2d-%2dT%2d:%2d:%2d", &year, &month, &day, &hour, &minute, &second);
    if (*zone == '.') fraction = strtod(zone, (char **)&zone);
    if (*zone != 'Z') sscanf(zone, "%c%2d:%2d", &sign, &zone_hours, &zone_minutes);
    if (year < 1 || hour > 23 || minute > 59 || second > 59 || zone_hours > 23 || zone_minutes > 59) return false;
    parts = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour,
                        .tm_min = minute, .tm_sec = second};
    time_t moment = timegm(&parts); /* makes 1 May of 31 April: then the day is none */
    if (parts.tm_mday != day || parts.tm_mon != month - 1) return false;
    moment -= (sign == '-' ? -1 : 1) * (zone_hours * 3600 + zone_minutes * 60);
    if (!gmtime_r(&moment, &parts) || parts.tm_year < 1 - 1900 || parts.tm_year > 9999 - 1900) return false;
    *seconds = (double)moment + fraction;
    return true;
}

static bool nested_too_deep(const char *bytes, size_t length) { /* before the parser's stack is asked */
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < length; i++)
        if (in_string) {
            if (bytes[i] == '\\') i++;
            else if (bytes[i] == '"') in_string = false;
        } else if (bytes[i] == '"') in_string = true;
        else if (bytes[i] == '{' || bytes[i] == '[') { if (++depth > DEPTH_MAX) return true; }
        else if (bytes[i] == '}' || bytes[i] == ']') depth--;
    return false;
}

/* What the register list says of the codes this firmware reads. */
static const struct { const char *code, *unit; json_type type; } LISTED[] = {
    {"1.8.0", "kWh", JSON_REAL}, {"2.8.0", "kWh", JSON_REAL}, {"96.8.0", "kWh", JSON_REAL},
    {"96.11.1", "enum", JSON_STRING}, {"96.1.0", "", JSON_STRING}, {"96.20.0", "count", JSON_REAL},
};

static fault judge_register(json_t *item) {
    static const char group[] = "(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])";
    char code[600];
    json_t *obis = json_object_get(item, "obis"), *value = json_object_get(item, "value");
    json_t *unit = json_object_get(item, "unit"), *quality = json_object_get(item, "quality");
    if (!json_is_object(item)) return "a register is an object";
    snprintf(code, sizeof code, "^(%s-%s:)?(%s[.](%s|[CFLP])[.]%s|[CFLP][.](%s|[CFLP])([.]%s)?)([*&]%s)?$", group,
             group, group, group, group, group, group, group);
    if (!matches(code, obis)) return "obis is no code";
    if (!json_is_string(value) && !json_is_number(value) && !json_is_boolean(value)) return "value is of no type it may have";
    if (json_is_number(value) && json_is_integer(value) &&
        (json_number_value(value) > WHOLE_MAX || json_number_value(value) < -WHOLE_MAX)) return "a whole number too large";
    if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value)) return "U+0000 in value";
    if (!json_is_string(unit) || strlen(json_string_value(unit)) != json_string_length(unit)) return "unit is no text";
    if (!matches("^(good|suspect|comms_lost)$", quality)) return "quality is none of the three";
    for (size_t i = 0; i < sizeof LISTED / sizeof *LISTED; i++)
        if (!strcmp(json_string_value(obis), LISTED[i].code)) {
            if (strcasecmp(json_string_value(unit), LISTED[i].unit)) return "a unit the register list does not give it";
            if (LISTED[i].type == JSON_STRING ? !json_is_string(value) : !json_is_number(value))
                return "a type the register list does not give it";
        }
    return NULL;
}

static fault judge_envelope(json_t *envelope, const struct topic *topic, double clock) {
    static const char *const ids[] = {"feederId", "gatewayId", "meterSerial"};
    static const int level[] = {2, 3, 5};
    json_t *version = json_object_get(envelope, "schemaVersion"), *session = json_object_get(envelope, "sessionId");
    json_t *registers = json_object_get(envelope, "registers"), *item;
    double ts;
    size_t i;
    if (!json_is_object(envelope)) return "an envelope is an object";
    if (version && !matches("^0[.][1-9][0-9]{0,3}$", version)) return "no version this reader knows";
    if (!read_time(json_object_get(envelope, "ts"), &ts)) return "ts is no time of the one form";
    for (i = 0; i < 3; i++) {
        json_t *id = json_object_get(envelope, ids[i]);
        if (!json_is_string(id) || !is_id(json_string_value(id), json_string_length(id))) return "an id is missing, or none";
        if (strcmp(json_string_value(id), topic->level[level[i]])) return "the body names another meter than the topic";
    }
    if (session && (!json_is_string(session) || !is_id(json_string_value(session), json_string_length(session))))
        return "sessionId is no id";
    if (!json_is_array(registers) || !json_array_size(registers)) return "registers is no array, or empty";
    json_array_foreach(registers, i, item) {
        fault found = judge_register(item);
        if (found) return found;
    }
    if (ts > clock + AHEAD_OF_CLOCK_MAX_S) return "ts is ahead of the clock";
    if (ts < 1577836800) return "ts is before 2020";
    return NULL;
}

/* Your firmware's own reader goes here: bytes as they came, and how they came. */
static fault judge(const struct topic *topic, const char *bytes, size_t length, bool retain, double clock) {
    if (retain) return "retained: old news";
    if (topic->kind != TELEMETRY && topic->kind != EVENT) return "no readings travel on this topic";
    if (length > MESSAGE_BYTES_MAX) return "too large";
    if (nested_too_deep(bytes, length)) return "nested too deep";
    json_error_t error;
    json_t *envelope = json_loadb(bytes, length, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);
    if (!envelope) return "not JSON";
    fault found = judge_envelope(envelope, topic, clock);
    json_decref(envelope);
    return found;
}

/* --- the adapter ----------------------------------------------------------------------------- */

static int digit(char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; }

static size_t from_hex(const char *hex, char *bytes) {
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++) bytes[i] = (char)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    return length;
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        json_t *question = json_loads(line, JSON_ALLOW_NUL, NULL);
        const char *kind = json_string_value(json_object_get(question, "kind"));
        const char *hex = json_string_value(json_object_get(question, "payloadHex"));
        json_t *topic_text = json_object_get(question, "topic");
        struct topic topic;
        double clock = 0;
        const char *verdict = "accept";
        if (!kind || !json_is_string(topic_text)) return 2; /* no question of this contract */
        read_time(json_object_get(question, "receivedAt"), &clock);
        fault found = read_topic(json_string_value(topic_text), json_string_length(topic_text), &topic);
        if (!strcmp(kind, "session") || !strcmp(kind, "command")) {
            verdict = "decline";
            found = "this reader knows no signed documents";
        } else if (!found && hex) {
            char *bytes = malloc(strlen(hex) / 2 + 1);
            size_t length = from_hex(hex, bytes);
            found = judge(&topic, bytes, length, json_is_true(json_object_get(question, "retain")), clock);
            free(bytes);
        }
        if (found && strcmp(verdict, "decline")) verdict = "reject";
        printf("{\"case\":%lld,\"verdict\":\"%s\",\"reason\":\"%s\"}\n",
               (long long)json_integer_value(json_object_get(question, "case")), verdict, found ? found : "");
        fflush(stdout); /* the kit waits for the line */
        json_decref(question);
    }
    free(line);
    return 0;
}
