/* The ceiling: a subscriber that acknowledges (QoS 1) and counts, and does nothing else.
 *
 *     c_subscriber PORT FILTER MESSAGES
 *
 * A persistent session, so that the broker does the work it does for a head-end. Writes a line when the last of
 * so many messages has come, and ends.
 */

#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>

static long wanted, seen;

static void on_connect(struct mosquitto *client, void *filter, int refused)
{
	if (refused || mosquitto_subscribe(client, NULL, filter, 1))
		exit(1);
}

static void on_message(struct mosquitto *client, void *filter, const struct mosquitto_message *message)
{
	(void)filter;
	(void)message;
	if (++seen == wanted)
		mosquitto_disconnect(client);
}

int main(int count, char **words)
{
	if (count != 4) {
		fprintf(stderr, "usage: c_subscriber PORT FILTER MESSAGES\n");
		return 2;
	}
	wanted = atol(words[3]);
	mosquitto_lib_init();
	struct mosquitto *client = mosquitto_new("bench-c", false, words[2]);
	mosquitto_connect_callback_set(client, on_connect);
	mosquitto_message_callback_set(client, on_message);
	mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
	if (mosquitto_connect(client, "127.0.0.1", atoi(words[1]), 60))
		return 1;
	mosquitto_loop_forever(client, -1, 1);
	printf("%ld\n", seen);
	return seen == wanted ? 0 : 1;
}
