"""A meter made of the server classes of gurux-dlms (GPL-2.0): a program of its own, run and never imported.

The server classes of the Python port lack what their other ports have; what is needed to make them answer is put
in here. Arguments: ``--hdlc`` for frames instead of the wrapper, ``--password`` for LLS.
"""
# mypy: ignore-errors
# ruff: noqa: N802, N803, N815, ARG005  # its names

import argparse
import asyncio
import sys
import traceback
from datetime import datetime, timedelta, timezone

from gurux_dlms import GXDateTime, GXDLMSServer, GXHdlcSettings
from gurux_dlms.enums import AccessMode, DataType, InterfaceType, MethodAccessMode, ObjectType, Unit
from gurux_dlms.enums.SourceDiagnostic import SourceDiagnostic
from gurux_dlms.GXServerReply import GXServerReply
from gurux_dlms.objects import (
    GXDLMSAssociationLogicalName,
    GXDLMSCaptureObject,
    GXDLMSClock,
    GXDLMSData,
    GXDLMSDisconnectControl,
    GXDLMSProfileGeneric,
    GXDLMSRegister,
)
from gurux_dlms.objects.enums import ControlState
from gurux_dlms.ValueEventArgs import ValueEventArgs


class Reply(GXServerReply):
    def setReply(self, value):
        self.reply = value

    def getReply(self):
        return self.reply

    def getConnectionInfo(self):
        return self.connectionInfo

    def setCount(self, value):
        self.count = value

    def getCount(self):
        return self.count


class Frames(GXHdlcSettings):
    def __init__(self):
        super().__init__()
        self.inactivityTimeout = 0

    def update(self, _):
        pass

    maximumInfoLengthReceive = property(lambda self: self.maxInfoRX)
    maximumInfoLengthTransmit = property(lambda self: self.maxInfoTX)
    windowSizeReceive = property(lambda self: self.windowSizeRX)
    windowSizeTransmit = property(lambda self: self.windowSizeTX)


class Log(GXDLMSProfileGeneric):
    """All rows, whatever is asked for, as some meters do: the port's own selection does not work."""

    def getValue(self, settings, e):
        e.selector = 0
        return super().getValue(settings, e)


class Meter(GXDLMSServer):
    def __init__(self, hdlc, password):
        self._max_pdu = 0xFFFF
        super().__init__(True, InterfaceType.HDLC if hdlc else InterfaceType.WRAPPER)
        if hdlc:
            self.hdlc = self.settings.hdlc = Frames()
        self._password = password
        self.settings.maxServerPDUSize = 1024
        if password:
            self.settings.password = password.encode()
        self._fill()
        self.initialized = True

    maxReceivePDUSize = property(lambda self: self._max_pdu, lambda self, value: None)

    def _fill(self):
        serial = GXDLMSData("0.0.96.1.0.255")
        serial.value = "GRX0000000001"
        self.items.append(serial)
        for name, value, scaler, unit in (
            ("1.0.1.8.0.255", 98_765_432, 0, Unit.ACTIVE_ENERGY),
            ("1.0.32.7.0.255", 2298, -1, Unit.VOLTAGE),
            ("1.0.31.7.0.255", 17, -1, Unit.CURRENT),
        ):
            register = GXDLMSRegister(name)
            register.value = value
            register.setDataType(2, DataType.UINT32)
            register.scaler = 10**scaler
            register.unit = unit
            self.items.append(register)
        clock = GXDLMSClock("0.0.1.0.0.255")
        clock.time = GXDateTime(datetime(2026, 6, 15, 12, tzinfo=timezone(timedelta(hours=2))))
        self.items.append(clock)
        relay = GXDLMSDisconnectControl("0.0.96.3.10.255")
        relay.outputState, relay.controlState = True, ControlState.CONNECTED
        self.items.append(relay)
        code = GXDLMSData("0.0.96.11.1.255")
        self.items.append(code)
        log = Log("0.0.99.98.1.255")
        for captured in (clock, code):
            log.captureObjects.append((captured, GXDLMSCaptureObject(2, 0)))
        for hour, told in enumerate((40, 41, 42, 43)):
            at = datetime(2026, 6, 15, 10 + hour, tzinfo=timezone(timedelta(hours=2)))
            log.buffer.append([GXDateTime(at), told])
        log.profileEntries = log.entriesInUse = len(log.buffer)
        log.sortObject = clock
        self.items.append(log)
        self.items.append(GXDLMSAssociationLogicalName())

    def handleCommand(self, cmd, data, sr):
        try:
            return super().handleCommand(cmd, data, sr)
        except Exception:  # it would be answered as a hardware fault, and not be seen
            traceback.print_exc()
            raise

    # What the port's own classes call, and do not have.
    def notifyRead(self, *_):
        pass

    def onPostRead(self, *_):
        pass

    def notifyConnected(self, *_):
        pass

    def notifyAction(self, *_):
        pass

    def notifyPostAction(self, *_):
        pass

    def notifyGetMethodAccess(self, *_):
        return MethodAccessMode.ACCESS

    def setTransaction(self, value):
        self.transaction = value

    def getTransaction(self):
        return self.transaction

    def isTarget(self, serverAddress, clientAddress):
        return True

    def onValidateAuthentication(self, authentication, password):
        told = bytes(password or b"")
        right = told == (self._password or "").encode() or self._password is None
        return SourceDiagnostic.NONE if right else SourceDiagnostic.AUTHENTICATION_FAILURE

    def onGetAttributeAccess(self, arg):
        return AccessMode.READ_WRITE

    def onGetMethodAccess(self, arg):
        return MethodAccessMode.ACCESS

    def onFindObject(self, objectType, sn, ln):
        return None

    def onPreAction(self, args):
        for arg in args if isinstance(args, list) else [args]:
            if arg.target.objectType == ObjectType.DISCONNECT_CONTROL:
                connected = arg.index == 2
                arg.target.outputState = connected
                arg.target.controlState = (
                    ControlState.CONNECTED if connected else ControlState.DISCONNECTED
                )
                arg.handled, arg.value = True, 0

    def onPostAction(self, *_):
        pass

    def onConnected(self, connectionInfo):
        pass

    def onDisconnected(self, connectionInfo):
        pass

    def onInvalidConnection(self, connectionInfo):
        pass

    def onPreGet(self, *_):
        pass

    def onPostGet(self, *_):
        pass

    def onPreRead(self, *_):
        pass

    def onPreWrite(self, *_):
        pass

    def onPostWrite(self, *_):
        pass


ValueEventArgs.__iter__ = lambda self: iter([self])


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hdlc", action="store_true")
    parser.add_argument("--password")
    arguments = parser.parse_args()

    async def serve(reader, writer):
        meter = Meter(arguments.hdlc, arguments.password)
        while data := await reader.read(4096):
            reply = Reply(bytearray(data))
            reply.connectionInfo = None
            meter.handleRequest(reply)
            if reply.reply:
                writer.write(bytes(reply.reply))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(
        f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", file=sys.stderr, flush=True
    )
    await server.serve_forever()


asyncio.run(main())
