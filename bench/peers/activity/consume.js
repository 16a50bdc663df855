// From a record to the store.
"use strict";
const { isEvent } = require("./event");

class EventStore {
  constructor() {
    this.events = [];
    this.processedEventIds = new Set();
  }

  addEvent(event) {
    if (this.processedEventIds.has(event.eventId)) return false;
    this.processedEventIds.add(event.eventId);
    this.events.push(event);
    return true;
  }

  all() {
    return this.events;
  }
}

// What is malformed is logged and skipped.
function handleMessage(message, store) {
  let event;
  try {
    event = JSON.parse(message.value.toString());
  } catch (error) {
    console.error(`Skipped a message that is not JSON at offset ${message.offset}: ${error.message}`);
    return;
  }
  if (!isEvent(event)) {
    console.error(`Skipped a message that is no event at offset ${message.offset}`);
    return;
  }
  console.log(`Consumed event eventId=${event.eventId} userId=${event.userId} eventType=${event.eventType}`);
  store.addEvent(event);
}

module.exports = { EventStore, handleMessage };
