/** A state cannot go on: the name is one that a `Catch` may name, the message says what to change. */
export class FlowError extends Error {
  constructor(
    readonly error: string,
    message: string,
    /** What a `Catch` finds beside the name, when that is more than the message. */
    readonly cause_: unknown = message,
  ) {
    super(message);
    this.name = 'FlowError';
  }
}

/** A value is needed that rests in the store; whoever evaluates loads it and evaluates again. */
export class NeedsReference extends Error {
  constructor(readonly taskId: string) {
    super(`the result of task ${taskId} has to be loaded first`);
    this.name = 'NeedsReference';
  }
}
