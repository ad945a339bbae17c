/* A village gateway in C on libmosquitto (EPL-2.0 or EDL-1.0, linked dynamically); docs/conformance-example.md tells what
 * the kit said of it, form by form.
 *
 *   gateway HOST PORT FEEDER GATEWAY CREDENTIALS METERS INTERVAL
 *
 * METERS is a folder that stands for the serial line: a meter answers while its file is there, with watt-hours counted,
 * watt-hours of credit, and 1 or 0 for its contactor. CREDENTIALS has ca.pem, client.crt and client.key.
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
static char ca[512], certificate[512], key[512];

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
    strftime(ts, sizeof ts, "%Y-%m-%dT%H:%M:%SZ", gmtime(&meter->read_at));
    snprintf(topic, sizeof topic, "openami/v1/%s/%s/meter/%s/telemetry", feeder, gateway, meter->serial);
    int length = snprintf(payload, sizeof payload,
        "{\"schemaVersion\":\"0.1\",\"ts\":\"%s\",\"feederId\":\"%s\",\"gatewayId\":\"%s\",\"meterSerial\":\"%s\",\"registers\":["
        "{\"obis\":\"1.8.0\",\"value\":%.3f,\"unit\":\"kWh\",\"quality\":\"%s\"},"
        "{\"obis\":\"96.8.0\",\"value\":%.3f,\"unit\":\"kWh\",\"quality\":\"%s\"},"
        "{\"obis\":\"96.11.1\",\"value\":\"%s\",\"unit\":\"enum\",\"quality\":\"%s\"}]}",
        ts, feeder, gateway, meter->serial, meter->energy_wh / 1000, quality, meter->credit_wh / 1000, quality,
        meter->closed ? "connected" : "disconnected", quality);
    mosquitto_publish(client, NULL, topic, length, payload, 1, false); /* kept by the library until its PUBACK */
}

int main(int argc, char **argv) {
    if (argc != 8) return fprintf(stderr, "gateway HOST PORT FEEDER GATEWAY CREDENTIALS METERS INTERVAL\n"), 2;
    feeder = argv[3], gateway = argv[4], folder = argv[6];
    char name[128];
    snprintf(name, sizeof name, "%s/%s", feeder, gateway);
    snprintf(ca, sizeof ca, "%s/ca.pem", argv[5]);
    snprintf(certificate, sizeof certificate, "%s/client.crt", argv[5]);
    snprintf(key, sizeof key, "%s/client.key", argv[5]);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(name, false, NULL);
    if (!client || mosquitto_tls_set(client, ca, NULL, certificate, key, NULL)) exit(1);
    mosquitto_connect(client, argv[1], atoi(argv[2]), 30);
    for (time_t due = time(NULL);; due += atoi(argv[7])) {
        while (time(NULL) < due) /* a lost link is no reason to stop measuring, nor to forget */
            if (mosquitto_loop(client, 100, 1)) sleep(1), mosquitto_reconnect(client);
        for (size_t i = 0; i < sizeof meters / sizeof *meters; i++) {
            bool answered = read_meter(&meters[i]);
            if (meters[i].read_at) publish(client, &meters[i], answered ? "good" : "comms_lost");
        }
    }
}
