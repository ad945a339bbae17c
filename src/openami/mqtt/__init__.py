"""The transport shell: MQTT behind one small port."""
