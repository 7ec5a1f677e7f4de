/** The scopes of access tokens, as the Globus clients spell them. */

const PREFIX = 'https://auth.globus.org/scopes';

/** The resource server of Globus Compute, as its clients name it in scopes. */
export const COMPUTE_ID = 'facd7ccc-c5f4-42aa-916b-a0e270e2c2a9';
export const COMPUTE_SCOPE = `${PREFIX}/${COMPUTE_ID}/all`;

/** The resource server of Globus Flows, as its clients name it in scopes. */
export const FLOWS_ID = 'eec9b274-0c81-4334-bdc2-54e90e689b9a';
/** Every right of the flows service except the right to start a flow. */
export const FLOWS_SCOPE = `${PREFIX}/${FLOWS_ID}/all`;

/** Whoever has a token with this scope may start the flow, if the flow's starters include them. */
export const flowScope = (flowId: string): string => `${PREFIX}/${flowId}/flow_${flowId.replaceAll('-', '_')}_user`;
