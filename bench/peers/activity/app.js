// The HTTP door.
"use strict";
const { randomUUID } = require("node:crypto");
const express = require("express");
const { requestErrors } = require("./event");

const invalid = (response, errors) => response.status(400).json({ message: "Invalid request payload", errors });

function createApp({ publish, store }) {
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  app.use(express.json());

  app.get("/health", (_request, response) => {
    response.json({ status: "ok" });
  });

  app.post("/events/generate", async (request, response) => {
    const body = request.body ?? {};
    const errors = requestErrors(body);
    if (errors.length > 0) return invalid(response, errors);
    const { userId, eventType, payload = {} } = body;
    const event = { eventId: randomUUID(), userId, eventType, timestamp: new Date().toISOString(), payload };
    try {
      await publish(event);
    } catch (error) {
      console.error(`Failed to publish event eventId=${event.eventId}: ${error.message}`);
      return response.status(500).json({ message: "Failed to publish event" });
    }
    response.status(201).json({ eventId: event.eventId });
  });

  app.get("/events/processed", (_request, response) => {
    response.json(store.all());
  });

  app.use((error, _request, response, next) => {
    if (error.type === "entity.parse.failed") return invalid(response, ["body must be valid JSON"]);
    next(error);
  });
  return app;
}

module.exports = { createApp };
