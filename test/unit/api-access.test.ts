import { decide, type Action, type Identity, type Owned, type Shared } from '../../platform/access';

const identity = (id: string, extra: Partial<Identity> = {}): Identity => ({
  id,
  name: id,
  isAdmin: false,
  groups: new Set(),
  ...extra,
});
const owner = identity('owner');
const stranger = identity('stranger');
const member = identity('member', { groups: new Set(['lab']) });
const admin = identity('admin', { isAdmin: true });

const shared = (kind: Shared['kind'], extra: Partial<Shared> = {}): Shared => ({
  kind,
  ownerId: 'owner',
  isPublic: false,
  groupId: null,
  ...extra,
});
const ACTIONS: Action[] = ['view', 'use', 'manage', 'read'];
const OWNED: Owned['kind'][] = ['task', 'task group', 'submission', 'group'];

describe('who may do what', () => {
  test('an owner may do everything with what it owns', () => {
    for (const action of ACTIONS) {
      expect(decide(owner, action, shared('function'))).toBe('allow');
      expect(decide(owner, action, shared('endpoint'))).toBe('allow');
      for (const kind of OWNED) expect(decide(owner, action, { kind, ownerId: 'owner' })).toBe('allow');
    }
  });

  test('a stranger sees no private function or endpoint and may use none', () => {
    expect(decide(stranger, 'view', shared('function'))).toEqual({ deny: 'FUNCTION_NOT_FOUND' });
    expect(decide(stranger, 'view', shared('endpoint'))).toEqual({ deny: 'ENDPOINT_NOT_FOUND' });
    expect(decide(stranger, 'use', shared('function'))).toEqual({ deny: 'FORBIDDEN' });
    expect(decide(stranger, 'manage', shared('endpoint'))).toEqual({ deny: 'ENDPOINT_NOT_FOUND' });
  });

  test('what is public may be seen and used by all, and changed by its owner only', () => {
    const open = shared('endpoint', { isPublic: true });
    expect(decide(stranger, 'view', open)).toBe('allow');
    expect(decide(stranger, 'use', open)).toBe('allow');
    expect(decide(stranger, 'manage', open)).toEqual({ deny: 'FORBIDDEN' });
  });

  test('what is shared with a group may be used by its members only', () => {
    const grouped = shared('function', { groupId: 'lab' });
    expect(decide(member, 'use', grouped)).toBe('allow');
    expect(decide(stranger, 'use', grouped)).toEqual({ deny: 'FORBIDDEN' });
    expect(decide(member, 'use', shared('function', { groupId: 'other' }))).toEqual({ deny: 'FORBIDDEN' });
  });

  test('tasks, groups of tasks and submissions of others do not exist; administrators see and cancel them, and read no body', () => {
    for (const kind of ['task', 'task group', 'submission'] as const) {
      for (const action of ACTIONS) expect(decide(stranger, action, { kind, ownerId: 'owner' })).not.toBe('allow');
      for (const action of ['view', 'manage'] as const) expect(decide(admin, action, { kind, ownerId: 'owner' })).toBe('allow');
      for (const action of ['use', 'read'] as const) expect(decide(admin, action, { kind, ownerId: 'owner' })).not.toBe('allow');
    }
    expect(decide(admin, 'read', { kind: 'task', ownerId: 'owner' })).toEqual({ deny: 'TASK_NOT_FOUND' });
  });

  test('an administrator lists and removes endpoints of others but may not submit to them', () => {
    expect(decide(admin, 'view', shared('endpoint'))).toBe('allow');
    expect(decide(admin, 'manage', shared('endpoint'))).toBe('allow');
    expect(decide(admin, 'use', shared('endpoint'))).toEqual({ deny: 'FORBIDDEN' });
    expect(decide(admin, 'view', shared('function'))).toEqual({ deny: 'FUNCTION_NOT_FOUND' });
  });

  test('only administrators manage the service', () => {
    expect(decide(admin, 'manage', { kind: 'service' })).toBe('allow');
    expect(decide(owner, 'manage', { kind: 'service' })).toEqual({ deny: 'FORBIDDEN' });
  });
});
