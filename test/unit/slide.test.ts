import { slideProgram } from '../helpers/slide';

test('the program that the tests run is that of the slide of 2022, byte for byte, without its line numbers', () => {
  expect(slideProgram()).toMatch(/hello_funcx\.py$/);
});
