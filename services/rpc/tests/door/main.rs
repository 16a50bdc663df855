//! The door from outside: a real port, tonic's client and a plain HTTP client.
mod api;
mod json;
mod routes;
mod server;
