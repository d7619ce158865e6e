"""Where events go: files, webhooks, MQTT, clips."""
