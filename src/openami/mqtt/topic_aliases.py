"""Topic aliases of MQTT 5: two bytes in the place of a topic the broker has been told (pure; MQTT 5.0 §3.3.2.3.4).

A gateway says the same few topics all day, each of some fifty bytes. The broker says how many aliases it takes
(``Topic Alias Maximum`` in CONNACK; none unless it says so), and both sides forget them with the connection.

The first topics keep them: with more topics than aliases, an alias that goes from one to the next would be told
anew each time and save nothing.
"""


class TopicAliases:
    """One connection's aliases. A topic's first message tells its alias, and goes with topic and alias.

    Until that message is acknowledged the topic is said in full: a broker that refuses a message may not have
    kept the alias it told, and a message under an alias that is not known ends the connection.
    """

    def __init__(self, at_most: int = 0) -> None:
        self._at_most = at_most
        self._numbers: dict[str, int] = {}  # bound: at_most
        self._known: set[int] = set()

    def said(self, topic: str) -> tuple[str, int | None]:
        """Return a message's topic as it is to be sent, and the alias that goes with it."""
        number = self._numbers.get(topic)
        if number is not None:
            return ("", number) if number in self._known else (topic, None)
        if len(self._numbers) >= self._at_most:
            return topic, None
        self._numbers[topic] = len(self._numbers) + 1
        return topic, self._numbers[topic]

    def acknowledged(self, alias: int) -> None:
        """Note that the broker has taken a message that went with this alias."""
        self._known.add(alias)
