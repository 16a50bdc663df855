// What an event is, and what a request for one must be.
"use strict";

const EVENT_TYPES = ["LOGIN", "LOGOUT", "PRODUCT_VIEW"];

const isText = (value) => typeof value === "string" && value.trim() !== "";
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function requestErrors({ userId, eventType, payload }) {
  const errors = [];
  if (!isText(userId)) errors.push("userId is required and must be a non-empty string");
  if (!EVENT_TYPES.includes(eventType)) errors.push(`eventType must be one of: ${EVENT_TYPES.join(", ")}`);
  if (payload !== undefined && !isObject(payload)) errors.push("payload must be a JSON object when provided");
  return errors;
}

const isEvent = (event) =>
  isObject(event) &&
  isText(event.eventId) &&
  requestErrors(event).length === 0 &&
  typeof event.timestamp === "string" &&
  !Number.isNaN(Date.parse(event.timestamp));

module.exports = { isEvent, requestErrors };
