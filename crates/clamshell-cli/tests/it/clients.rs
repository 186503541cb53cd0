//! The clients that people have already: boto3, the AWS CLI, the Python and JavaScript SDKs, the agentcore CLI, xterm.js,
//! unchanged, against a server of this build. What each of them must see is written in `tests/clients/`.
//!
//! A test whose client is not installed says so and ends.

mod agentcore;
mod aws_cli;
mod boto3;
mod control;
mod harness;
mod hosting;
mod javascript;
mod python_sdk;
mod relay;
mod screen;

use harness::Setting;
