import { slideProgram } from '../helpers/slide';

test('hello_funcx.py equals the program on the slide of 2022 without the line numbers of the slide', () => {
  expect(() => slideProgram()).not.toThrow();
});
