"""A village's meter as its type keeps it: the register map of a real one, filled from the village."""

from collections.abc import Callable, Mapping

from openami.gateway.driver import RelayPosition
from openami.gateway.drivers.modbus.register_map import Area as MapArea
from openami.gateway.drivers.modbus.register_map import RegisterMap
from openami.simulator.display import quantities
from openami.simulator.encode import by_address, identity_words, words_of
from openami.simulator.modbus_server import Area, Write, WriteRefused
from openami.simulator.village import Measured

_AREAS = {Area.INPUT: MapArea.INPUT, Area.HOLDING: MapArea.HOLDING}


class ModbusMeter:
    """A register bank: asked for its registers, it measures, and shows what its map has room for."""

    def __init__(
        self,
        register_map: RegisterMap,
        measure: Callable[[], Measured],
        *,
        maker_number: int,
        order_relay: Callable[[RelayPosition], None],
    ) -> None:
        self._map = register_map
        self._measure = measure
        self._maker_number = maker_number
        self._order_relay = order_relay

    def registers(self, area: Area) -> Mapping[int, int]:
        measured = self._measure()
        words = dict(words_of(self._map, quantities(measured)))
        if self._map.relay is not None:
            words[self._map.relay.field] = (self._map.relay.codes[measured.relay],)
        if self._map.identify is not None:
            words[self._map.identify] = identity_words(self._map.identify, self._maker_number)
        return by_address(words, gap=self._map.limits.max_gap)[_AREAS[area]]

    def write(self, how: Write, address: int, word: int) -> None:
        """Order the relay, by the function its maker chose; nothing else can be written."""
        relay = self._map.relay
        if relay is None or (how, address) != (relay.write_function, relay.address):
            raise WriteRefused
        for position, code in relay.codes.items():
            if code == word:
                self._order_relay(position)
                return
        raise WriteRefused
