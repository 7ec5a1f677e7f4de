/**
 * How the answers of a request are delivered besides the store:
 *
 * - `none`: not at all
 * - `single`: to the group's queue, each answer in a message of its own
 * - `batches`: to the group's batch queue, where one message may have many answers
 *
 * A group whose requests or readers differ has both queues, and each queue gets all answers.
 */
export type ResultQueue = 'none' | 'single' | 'batches';
