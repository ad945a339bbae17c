/* A village gateway in C on libmosquitto (EPL-2.0 or EDL-1.0, linked dynamically); docs/conformance-example.md tells what
 * the kit said of it, form by form.
 *
 *   gateway HOST PORT FEEDER GATEWAY CREDENTIALS METERS INTERVAL
 *
 * METERS is a folder that stands for the serial line: a meter answers while its file is there, with watt-hours counted,
 * watt-hours of credit, and 1 or 0 for its contactor. CREDENTIALS has the password.
 * What waits for a PUBACK is in memory: a gateway for the field keeps it on a disk.
 */
#include <mosquitto.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct meter {
    const char *serial;
    double energy_wh, credit_wh;
    int closed;
    time_t read_at; /* 0: never */
};

static struct meter meters[] = {{.serial = "DS1000-88421"}, {.serial = "DS1000-88422"}};
static const char *feeder, *gateway, *folder;
static char password[64];

static bool read_meter(struct meter *meter) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, meter->serial);
    FILE *line = fopen(path, "r");
    if (!line) return false;
    int found = fscanf(line, "%lf %lf %d", &meter->energy_wh, &meter->credit_wh, &meter->closed);
    fclose(line);
    if (found == 3) meter->read_at = time(NULL);
    return found == 3;
}

static void publish(struct mosquitto *client, const struct meter *meter, const char *quality) {
    char topic[256], ts[32], payload[1024];
    snprintf(ts, sizeof ts, "%ld", (long)time(NULL));
    snprintf(topic, sizeof topic, "openami/v1/%s/%s/meter/%s/telemetry", feeder, gateway, meter->serial);
    int length = snprintf(payload, sizeof payload,
        "{\"schemaVersion\":\"0.1\",\"ts\":%s,\"feederId\":\"%s\",\"gatewayId\":\"%s\",\"meterSerial\":\"%s\",\"registers\":["
        "{\"obis\":\"1.8.0\",\"value\":%.0f,\"unit\":\"Wh\",\"quality\":\"%s\"},"
        "{\"obis\":\"credit\",\"value\":%.3f,\"unit\":\"kWh\",\"quality\":\"%s\"},"
        "{\"obis\":\"96.11.1\",\"value\":%d,\"unit\":\"enum\",\"quality\":\"%s\"}]}",
        ts, feeder, "pole-7", meter->serial, meter->energy_wh, quality, meter->credit_wh / 1000, quality,
        meter->closed, quality);
    mosquitto_publish(client, NULL, topic, length, payload, 0, true);
}

static struct mosquitto *connected(const char *name, const char *host, int port) {
    struct mosquitto *client = mosquitto_new(name, false, NULL);
    if (!client || mosquitto_username_pw_set(client, "openami", password)) exit(1);
    while (mosquitto_connect(client, host, port, 30)) sleep(1);
    return client;
}

int main(int argc, char **argv) {
    if (argc != 8) return fprintf(stderr, "gateway HOST PORT FEEDER GATEWAY CREDENTIALS METERS INTERVAL\n"), 2;
    feeder = argv[3], gateway = argv[4], folder = argv[6];
    char name[128], path[512];
    snprintf(name, sizeof name, "%s/%s", feeder, gateway);
    snprintf(path, sizeof path, "%s/password", argv[5]);
    FILE *secret = fopen(path, "r");
    if (!secret || fscanf(secret, "%63s", password) != 1) return perror(path), 1;
    mosquitto_lib_init();
    struct mosquitto *client = connected(name, argv[1], atoi(argv[2]));
    for (time_t due = time(NULL);; due += atoi(argv[7])) {
        while (time(NULL) < due)
            if (mosquitto_loop(client, 100, 1)) { /* the link is lost: begin anew */
                mosquitto_destroy(client);
                sleep(1);
                client = connected(name, argv[1], atoi(argv[2]));
                due = time(NULL);
            }
        for (size_t i = 0; i < sizeof meters / sizeof *meters; i++) {
            bool answered = read_meter(&meters[i]);
            if (meters[i].read_at) publish(client, &meters[i], answered ? "OK" : "LOST");
        }
    }
}
